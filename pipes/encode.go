package pipes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/seed-0f2c7998/perdure/internal/redact"
)

// The limits of a message. Dagster's reader ends without a word at a message that
// it cannot read.
const (
	maxLine   = 60 << 10 // bytes, with the newline; with the padding of a file at most 64 KiB
	maxText   = 48 << 10 // bytes of one text, as it is encoded
	maxPart   = 3840     // bytes of one part of a text that is sent in parts: a message then fits a page, see file
	maxDepth  = 64       // nested lists and objects; Python's limit is 1000
	maxDigits = 4000     // digits of an integer; Python's limit is 4300
)

// An object is a JSON object whose fields keep their order.
type object []field

type field struct {
	name  string
	value any
}

// A verbatim string is sent as it is, not redacted: a name.
type verbatim string

// An encoded value is JSON that appendValue has made.
type encoded []byte

// message returns a message as one line. The line is ASCII, because the reader
// decodes with the encoding of its locale.
func message(method string, params any) ([]byte, error) {
	line, err := appendValue(nil, object{
		{"__dagster_pipes_version", verbatim("0.1")},
		{"method", verbatim(method)},
		{"params", params},
	}, 0)
	if err != nil {
		return nil, err
	}
	if line = append(line, '\n'); len(line) > maxLine {
		return nil, fmt.Errorf("pipes: %s: %d bytes are too long for a message: at most %d; write them to a file and report its path",
			method, len(line), maxLine)
	}
	return line, nil
}

// appendValue appends v as JSON. A float always has a point or an exponent:
// without one Python reads an integer.
func appendValue(b []byte, v any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("pipes: a value has more than %d levels", maxDepth)
	}
	if len(b) > 2*maxLine {
		return b, nil // too long already; message returns the error
	}
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case verbatim:
		return appendString(b, string(v)), nil
	case string:
		return appendString(b, redact.String(v)), nil
	case int64:
		return strconv.AppendInt(b, v, 10), nil
	case float64:
		return appendFloat(b, v), nil
	case json.Number:
		return appendNumber(b, v)
	case encoded:
		return append(b, v...), nil
	case object:
		return appendObject(b, v, depth)
	case map[string]any:
		return appendMap(b, v, depth)
	case []any:
		return appendList(b, v, depth)
	default:
		return appendOther(b, v, depth)
	}
}

// appendOther appends v as encoding/json encodes it.
func appendOther(b []byte, v any, depth int) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("pipes: a value cannot be written as JSON: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var plain any
	if err := d.Decode(&plain); err != nil {
		return nil, fmt.Errorf("pipes: a value cannot be written as JSON: %w", err)
	}
	return appendValue(b, plain, depth)
}

func appendMap(b []byte, m map[string]any, depth int) ([]byte, error) {
	if m == nil {
		return append(b, "null"...), nil
	}
	o := make(object, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		o = append(o, field{name, m[name]})
	}
	return appendObject(b, o, depth)
}

func appendObject(b []byte, o object, depth int) ([]byte, error) {
	b = append(b, '{')
	for i, f := range o {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, f.name), ':')
		var err error
		if b, err = appendValue(b, f.value, depth+1); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

func appendList(b []byte, list []any, depth int) ([]byte, error) {
	if list == nil {
		return append(b, "null"...), nil
	}
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendValue(b, v, depth+1); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

// appendFloat appends f. NaN and infinities, which JSON lacks, become strings.
func appendFloat(b []byte, f float64) []byte {
	if !finite(f) {
		return appendString(b, strconv.FormatFloat(f, 'g', -1, 64))
	}
	text := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return append(b, text...)
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

func appendNumber(b []byte, n json.Number) ([]byte, error) {
	text := n.String()
	if text == "" || !strings.ContainsRune("-0123456789", rune(text[0])) || !json.Valid([]byte(text)) {
		return nil, fmt.Errorf("pipes: %q is not a JSON number", clip(text, 100))
	}
	if !strings.ContainsAny(text, ".eE") && len(text) > maxDigits {
		return nil, fmt.Errorf("pipes: an integer has %d digits: at most %d", len(text), maxDigits)
	}
	return append(b, text...), nil
}

const hex = "0123456789abcdef"

// appendString appends s in quotes. Invalid UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, '\\', 'n')
		case ' ' <= r && r < utf8.RuneSelf:
			b = append(b, byte(r))
		case r > 0xffff:
			r -= 0x10000
			b = appendUnit(appendUnit(b, 0xd800+r>>10), 0xdc00+r&0x3ff)
		default:
			b = appendUnit(b, r)
		}
	}
	return append(b, '"')
}

func appendUnit(b []byte, u rune) []byte {
	return append(b, '\\', 'u', hex[u>>12&15], hex[u>>8&15], hex[u>>4&15], hex[u&15])
}

// width is the number of bytes that r takes in a message.
func width(r rune) int {
	switch {
	case r == '"' || r == '\\' || r == '\n':
		return 2
	case ' ' <= r && r < utf8.RuneSelf:
		return 1
	case r > 0xffff:
		return 12
	default:
		return 6
	}
}

// cut returns the length of the longest prefix of s that takes at most limit bytes
// in a message.
func cut(s string, limit int) int {
	for i, r := range s {
		if limit -= width(r); limit < 0 {
			return i
		}
	}
	return len(s)
}

// part splits s into the part to send first and the rest. The part ends with a line
// if a whole line fits.
func part(s string) (first, rest string) {
	end := cut(s, maxPart)
	if i := strings.LastIndexByte(s[:end], '\n'); i >= 0 && end < len(s) {
		end = i + 1
	}
	return s[:end], s[end:]
}

// clip returns s without the secrets in its URLs, cut to limit bytes in a message.
// A mark follows where s was cut.
func clip(s string, limit int) string {
	s = redact.String(s)
	if end := cut(s, limit); end < len(s) {
		return s[:end] + "... [cut: " + strconv.Itoa(len(s)) + " bytes in all]"
	}
	return s
}
