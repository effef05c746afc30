package awsretry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/bound"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/stall"
)

// A NotS3Error reports a successful response that is not one of S3, such as the page of another web server at the
// endpoint. It is not retried, and a breaker ignores it.
type NotS3Error struct {
	Server      string // scheme and host
	ContentType string // of the response; "" if it has none
}

// Error is like "http://localhost:9000 is not an S3 store: it responded with text/html".
func (e *NotS3Error) Error() string {
	return fmt.Sprintf("%s is not an S3 store: it responded with %s", e.Server, cmp.Or(e.ContentType, "no content type"))
}

// roots holds the root elements of successful responses to S3's operations,
// without the suffix Result, which some stores omit.
//
//nolint:gochecknoglobals // a constant table
var roots = map[string][]string{
	"ListObjects":             {"ListBucket"},
	"ListObjectsV2":           {"ListBucket"},
	"ListObjectVersions":      {"ListVersions", "ListBucketVersions"},
	"ListMultipartUploads":    {"ListMultipartUploads"},
	"ListParts":               {"ListParts"},
	"ListBuckets":             {"ListAllMyBuckets"},
	"CreateMultipartUpload":   {"InitiateMultipartUpload"},
	"CompleteMultipartUpload": {"CompleteMultipartUpload"},
	"CopyObject":              {"CopyObject"},
	"UploadPartCopy":          {"CopyPart", "CopyObject"},
	"DeleteObjects":           {"Delete"},
}

// receive limits a response, and checks that it can be one of S3, before the SDK reads it.
func (op *operation) receive(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
	in.Request = withoutWriteTo(in.Request)
	out, metadata, err := next.HandleDeserialize(ctx, in)
	if req, ok := in.Request.(*smithyhttp.Request); ok {
		op.sent = req.Header
	}
	res, ok := out.RawResponse.(*smithyhttp.Response)
	if err != nil || !ok || res == nil || res.Response == nil {
		return out, metadata, err
	}
	if res.Body == nil {
		res.Body = http.NoBody
	}
	if bound.HeaderSize(res.Header) > bound.Header {
		_ = res.Body.Close()
		return out, metadata, &httpretry.LimitError{What: "response header", Limit: bound.Header}
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		return out, metadata, op.receiveError(res)
	}
	op.body = newDocument(res.Body, op.readsXML, op.documentLimits())
	res.Body = op.body
	if awsmiddleware.GetServiceID(ctx) == "S3" {
		err = checkS3(op.name, in.Request, res)
	}
	return out, metadata, err
}

// liftLimits lifts the limits of a body that the SDK has left for the caller to read.
func (op *operation) liftLimits(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
	out, metadata, err := next.HandleDeserialize(ctx, in)
	if err == nil && op.body != nil {
		op.body.Lift()
	}
	return out, metadata, err
}

// errorBodyLimits is the least rate of an error's body: 20 KiB within 20 s, or complete.
func errorBodyLimits() stall.Limits { return stall.Limits{MinRate: 1 << 10, Window: 20 * time.Second} }

// documentLimits returns the least rate of a body that the SDK reads: 1 KiB/s, averaged over a minute, or over MaxElapsed
// if that is less. While S3 copies an object or puts one together it sends spaces, perhaps for many minutes: that is
// limited only after MaxElapsed, or after an hour.
func (op *operation) documentLimits() stall.Limits {
	most := op.policy.MaxElapsed
	l := stall.Limits{MinRate: 1 << 10}.Within(most)
	if slices.Contains([]string{"CompleteMultipartUpload", "CopyObject", "UploadPartCopy"}, op.name) {
		l.From = time.Now().Add(cmp.Or(most, time.Hour))
	}
	return l
}

// receiveError reads the body of an error, and replaces it by a copy without the request's secrets. A body that
// breaks off is used as far as it came.
func (op *operation) receiveError(res *smithyhttp.Response) error {
	tooLarge := &httpretry.LimitError{What: "body of an error response", Limit: bound.ErrorBody}
	body := stall.NewReader(bound.NewReader(res.Body, bound.ErrorBody, tooLarge), errorBodyLimits(), nil)
	text, err := io.ReadAll(body)
	// Over HTTP/2 Close waits for the end of the request body, and the SDK ends an event stream only after this.
	go func() { _ = body.Close() }()
	if limit, ok := errors.AsType[*httpretry.LimitError](err); ok {
		res.Body = http.NoBody // after an error the SDK reads the body to its end
		return limit
	}
	nameRegion(res.Header, text)
	text = []byte(redact.FromHeader(op.sent).Redact(string(text)))
	res.Body = io.NopCloser(bytes.NewReader(text))
	return nil
}

// bucketRegion is the header with the region of a bucket.
const bucketRegion = "X-Amz-Bucket-Region"

// nameRegion copies the region in the body of an S3 error into the header, where other errors have it, and deletes
// one that cannot be a region: it becomes part of a host name.
func nameRegion(header http.Header, text []byte) {
	if header.Get(bucketRegion) == "" {
		_, rest, _ := bytes.Cut(text, []byte("<Region>"))
		name, _, _ := bytes.Cut(rest, []byte("</Region>"))
		header.Set(bucketRegion, string(name))
	}
	name := header.Get(bucketRegion)
	if name == "" || len(name) > 63 || strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-", r) }) {
		header.Del(bucketRegion)
	}
}

// checkS3 returns an error for a success that cannot be the response to the operation of S3. It leaves the body unread.
func checkS3(operation string, request any, res *smithyhttp.Response) error {
	switch want, known := roots[operation]; {
	case known:
		root, ok := rootOf(res)
		if !ok || root == "Error" || slices.Contains(want, strings.TrimSuffix(root, "Result")) {
			return nil
		}
		listing := strings.HasPrefix(operation, "List") && operation != "ListParts"
		if hasS3Header(res) && !listing && root != "" && !strings.EqualFold(root, "html") {
			return nil // a dialect, but not in a listing: it would look empty
		}
	case !slices.Contains([]string{"GetObject", "HeadObject", "PutObject", "UploadPart"}, operation):
		return nil
	case sizeOf(res) > maxObject:
		_ = res.Body.Close()
		return &httpretry.LimitError{What: "size of the object", Limit: maxObject}
	case hasS3Header(res):
		return nil
	}
	_ = res.Body.Close()
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	e := &NotS3Error{ContentType: kind}
	if req, ok := request.(*smithyhttp.Request); ok && req.URL != nil {
		e.Server = req.URL.Scheme + "://" + req.URL.Host
	}
	return e
}

// maxObject is 1 PiB, twenty times the limit of S3. Larger sizes might overflow.
const maxObject = 1 << 50

// sizeOf returns the size of the object of a response.
func sizeOf(res *smithyhttp.Response) int64 {
	size := res.ContentLength
	if _, total, ok := strings.Cut(res.Header.Get("Content-Range"), "/"); ok {
		if n, err := strconv.ParseInt(total, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
			size = max(size, n)
		}
	}
	return size
}

// hasS3Header reports whether a response has a header that S3 stores send.
func hasS3Header(res *smithyhttp.Response) bool {
	return slices.ContainsFunc([]string{"ETag", "X-Amz-Request-Id", "X-Amz-Id-2"}, func(name string) bool { return res.Header.Get(name) != "" })
}

// rootOf returns the name of the root element of a body; "" if it has none. ok is false if the body breaks off
// before.
func rootOf(res *smithyhttp.Response) (root string, ok bool) {
	const most = 64 << 10
	var read bytes.Buffer
	body := res.Body
	decoder := xml.NewDecoder(io.TeeReader(io.LimitReader(body, most), &read))
	defer func() {
		res.Body = &rejoined{io.MultiReader(&read, body), body}
	}()
	for {
		token, err := decoder.Token()
		if start, ok := token.(xml.StartElement); ok {
			return start.Name.Local, true
		}
		if err != nil {
			syntax, is := errors.AsType[*xml.SyntaxError](err)
			return "", err == io.EOF || is && syntax.Msg != "unexpected EOF" //nolint:errorlint // exactly the end
		}
	}
}

// A rejoined is a body whose beginning has been read.
type rejoined struct {
	io.Reader
	io.Closer
}

// A cleanedError is an error with a cleaned text.
type cleanedError struct {
	err  error
	text string
}

func (e *cleanedError) Error() string { return e.text }
func (e *cleanedError) Unwrap() error { return e.err }
func (e *cleanedError) Replaces()     {} // implements redact.Replaces

// cleaned returns err with a one-line text without the request's secrets, which a service may have sent back.
func (op *operation) cleaned(err error) error {
	secrets := redact.FromHeader(op.sent)
	clean := func(text string) string { return redact.Line(secrets.Redact(text)) }
	cleanAPI(err, clean)
	if text := err.Error(); clean(text) != strings.TrimSpace(text) {
		return &cleanedError{err, clean(text)}
	}
	return err
}

// longest is how many bytes of a service's error message are shown.
const longest = 2 << 10

// cleanAPI cleans the service's texts in err in place, because [Brief] and others show them alone.
func cleanAPI(err error, clean func(string) string) {
	api, ok := errors.AsType[smithy.APIError](err)
	v := reflect.ValueOf(api)
	if !ok || v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return
	}
	for _, name := range []string{"Code", "Message", "ErrorCodeOverride"} {
		f := v.Elem().FieldByName(name)
		if f.Kind() == reflect.Pointer && !f.IsNil() {
			f = f.Elem()
		}
		if f.Kind() == reflect.String && f.CanSet() {
			text := f.String()
			if len(text) > longest {
				text = strings.ToValidUTF8(text[:longest], "") + " ..."
			}
			f.SetString(clean(text))
		}
	}
}
