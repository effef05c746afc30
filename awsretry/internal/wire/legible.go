package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// EncodingLegible is the encoding of a listing that [Legible] has changed: [Illegible] returns its keys.
const EncodingLegible types.EncodingType = "perdure"

// Legible text maps a byte b that XML cannot carry to the private-use character
// illegible + b, and U+FFFE and U+FFFF to below + 0xFE and below + 0xFF.
const (
	illegible = 0xF700
	last      = illegible + 0xFF
	below     = illegible - 0x100 // U+FFFE is below + 0xFE
)

// Legible is an option of a client for stores that write keys into XML unencoded, whatever encoding-type says: a
// control character in a key would make a page unreadable, or the response with the ID of an upload.
func Legible(o *s3.Options) {
	read := middleware.DeserializeMiddlewareFunc("perdure:Legible", func(
		ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler,
	) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleDeserialize(ctx, in)
		res, ok := out.RawResponse.(*smithyhttp.Response)
		if err == nil && ok && res.Body != nil && (res.StatusCode >= http.StatusMultipleChoices || isPage(middleware.GetOperationName(ctx))) {
			text, err := io.ReadAll(res.Body) // limited by package awsretry
			if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
				text = legible(text)
			}
			res.Body = reread{io.MultiReader(bytes.NewReader(text), failing{err}), res.Body}
		}
		return out, metadata, err
	})
	o.APIOptions = append(slices.Clip(o.APIOptions), func(stack *middleware.Stack) error {
		if _, ok := stack.Deserialize.Get("perdure:Receive"); !ok {
			return nil // a presigned request is not sent
		}
		return stack.Deserialize.Insert(read, "perdure:Receive", middleware.Before)
	})
}

// isPage reports whether the response to that operation of S3 is XML with keys.
func isPage(operation string) bool {
	switch operation {
	case "ListObjectsV2", "ListMultipartUploads", "ListParts", "CreateMultipartUpload", "CompleteMultipartUpload", "DeleteObjects":
		return true
	}
	return false
}

type reread struct {
	io.Reader
	io.Closer
}

// A failing is a reader that returns its error, or io.EOF if that is nil.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err == nil {
		return 0, io.EOF
	}
	return 0, f.err
}

var (
	reference = regexp.MustCompile(`&#(?:x[0-9A-Fa-f]{1,6}|[0-9]{1,7});`)
	rootStart = regexp.MustCompile(`<[A-Za-z][^>]*[^/?]>`)
)

// legible returns text. If XML cannot carry it, legible maps it so that it can be parsed, and inserts an element that
// says so.
func legible(text []byte) []byte {
	changed := false
	text = reference.ReplaceAllFunc(text, func(ref []byte) []byte {
		digits, base := string(ref[2:len(ref)-1]), 10
		if hex, ok := strings.CutPrefix(digits, "x"); ok {
			digits, base = hex, 16
		}
		if n, err := strconv.ParseInt(digits, base, 32); err == nil && isIllegible(rune(n)) {
			changed = true
			return utf8.AppendRune(nil, substitute(rune(n)))
		}
		return ref
	})
	var b bytes.Buffer
	for rest := text; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if r == utf8.RuneError && size == 1 {
			r = illegible + rune(rest[0])
			changed = true
		} else if isIllegible(r) {
			r = substitute(r)
			changed = true
		}
		b.WriteRune(r)
		rest = rest[size:]
	}
	if !changed {
		return text
	}
	text = b.Bytes()
	if at := rootStart.FindIndex(text); at != nil {
		text = slices.Insert(text, at[1], []byte("<EncodingType>"+string(EncodingLegible)+"</EncodingType>")...)
	}
	return text
}

func isIllegible(r rune) bool {
	return r >= 0 && r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF
}

// substitute returns the character that replaces an illegible one.
func substitute(r rune) rune {
	if r > 0xFF {
		return below + r&0xFF
	}
	return illegible + r
}

// Illegible returns the text that was made legible as s.
func Illegible(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == below+0xFE || r == below+0xFF:
			b.WriteRune(r - below + 0xFF00)
		case r >= illegible && r <= last:
			b.WriteByte(byte(r - illegible))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
