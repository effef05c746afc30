package s3

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/retry"
)

const (
	maxError   = 64 << 10 // bytes of an error that are read
	maxListing = 16 << 20 // bytes of a document that is read before the client gets it
	minSkew    = time.Minute

	documentTime = 10 * time.Second // how long a document may take before the client gets the head of its response
)

// An apiError is an error of S3, for package retry.
type apiError struct {
	code   string
	status int
}

func (e apiError) Error() string       { return e.code }
func (e apiError) ErrorCode() string   { return e.code }
func (e apiError) HTTPStatusCode() int { return e.status }

// received reads what the response to a request with the header sent means. Documents are read to their end, so that one
// that breaks is requested again.
func (s *Store) received(c *call, res *http.Response, sent http.Header) (*http.Response, error) {
	if res.Request.Method == http.MethodHead {
		s.fails(c, res, "")
		return res, nil
	}
	if res.StatusCode >= http.StatusBadRequest {
		text, err := read(res, maxError)
		if err == nil {
			hide(res, text, sent)
		}
		s.fails(c, res, codeOf(text))
		return res, nil
	}
	if c.operation == "GetObject" || c.operation == "SelectObjectContent" || res.StatusCode >= http.StatusMultipleChoices {
		return res, nil
	}
	text, err := readEarly(res)
	if err != nil {
		res.Body.Close()
		return nil, err
	}
	if code := codeOf(text); code != "" { // a CopyObject or CompleteMultipartUpload that failed after its response began
		res.StatusCode, res.Status = http.StatusInternalServerError, ""
		if code == "SlowDown" || code == "ServiceUnavailable" {
			res.StatusCode = http.StatusServiceUnavailable
		}
		hide(res, text, sent)
		s.fails(c, res, code)
	}
	return res, nil
}

// hide removes the store's credentials from text, which is the error that the body of res begins with: a store quotes the
// access key, the session token or the signature that it refuses. sent is the header of the signed request.
func hide(res *http.Response, text []byte, sent http.Header) {
	_, id, _ := strings.Cut(sent.Get("Authorization"), "Credential=")
	id, _, _ = strings.Cut(id, "/")
	clean := redact.FromHeader(sent).Value(id).Redact(string(text))
	if clean == string(text) {
		return
	}
	rest := res.Body
	_, _ = io.CopyN(io.Discard, rest, int64(len(text))) // which is in memory
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(strings.NewReader(clean), rest), rest}
	if res.ContentLength >= 0 {
		res.ContentLength += int64(len(clean) - len(text))
		res.Header.Set("Content-Length", strconv.FormatInt(res.ContentLength, 10))
	}
}

// read reads the body of a response, and replaces it by one with the same bytes.
func read(res *http.Response, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(res.Body, limit))
	if err != nil {
		return text, err
	}
	rest := res.Body
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(text), rest), rest}
	return text, nil
}

// readEarly is read for a success. A document that takes longer than documentTime is left to the client, and text is empty: a
// store that copies or completes a large object sends the head of its response long before.
func readEarly(res *http.Response) ([]byte, error) {
	var text []byte
	var err error
	body, done := res.Body, make(chan struct{})
	own := &http.Response{Body: body}
	go func() {
		defer close(done)
		text, err = read(own, maxListing)
	}()
	timer := time.NewTimer(documentTime)
	defer timer.Stop()
	select {
	case <-done:
		res.Body = own.Body
		return text, err
	case <-timer.C:
	}
	res.Body = &lateBody{Closer: body, wait: func() (io.Reader, error) {
		<-done
		return own.Body, err
	}}
	return nil, nil
}

// A lateBody is a body that another goroutine still reads.
type lateBody struct {
	io.Closer

	wait func() (io.Reader, error)
}

// Read reads the body once it has been read.
func (b *lateBody) Read(p []byte) (int, error) {
	r, err := b.wait()
	if err != nil {
		return 0, err
	}
	return r.Read(p)
}

// codeOf returns the code of an error of S3, or "" if text is none.
func codeOf(text []byte) string {
	var e struct {
		XMLName xml.Name
		Code    string
	}
	if len(bytes.TrimSpace(text)) == 0 || xml.Unmarshal(text, &e) != nil || e.XMLName.Local != "Error" {
		return ""
	}
	if e.Code == "" {
		return "InternalError"
	}
	return e.Code
}

// fails notes the class of a response that is an error.
func (s *Store) fails(c *call, res *http.Response, code string) {
	if res.StatusCode < http.StatusBadRequest {
		return
	}
	class := retry.ClassUnknown
	switch code {
	case "":
	case "ConditionalRequestConflict":
		if class = retry.ClassConflict; c.operation == "CompleteMultipartUpload" {
			class = retry.ClassPermanent
		}
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired":
		if s.refresh() {
			class = retry.ClassTransient
		}
	case "RequestTimeTooSkewed":
		if s.correct(res) {
			class = retry.ClassTransient
		}
	default:
		class, _ = new(retry.Policy).ClassOf(apiError{code, res.StatusCode})
	}
	c.class.Store(uint32(class))
}

// correct sets the clock by the store's, and reports whether that makes a difference.
func (s *Store) correct(res *http.Response) bool {
	date, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return false
	}
	before, skew := time.Duration(s.skew.Load()), time.Until(date)
	s.skew.Store(int64(skew))
	return (skew - before).Abs() > minSkew
}
