package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
	"github.com/seed-0f2c7998/perdure/httpretry"
)

const (
	maxObject   = 5 << 30 // bytes of one request, the limit of S3
	maxDocument = 8 << 20 // bytes of the XML of a POST; S3 accepts 10,000 parts
)

// writeIDField is the metadata by which a conditional put recognizes its own object, as that of awsretry/objects.
const writeIDField = "X-Amz-Meta-Perdure-Write-Id"

// admit checks the request of a client, and returns it without its signature and with its body decoded.
func (s *Store) admit(r *http.Request) (*http.Request, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refusal(http.StatusBadRequest, "InvalidURI", "the query is malformed")
	}
	from, err := s.authenticate(r, query)
	if err != nil {
		return nil, err
	}
	c := &call{operation: operationOf(r, query), payload: from.payload, length: r.ContentLength}
	if c.payload == "" {
		c.payload = unsignedPayload
	}
	ctx := context.WithValue(r.Context(), callKey{}, c)
	if r.Method == http.MethodPost {
		if ctx, err = c.admitPost(ctx); err != nil {
			return nil, err
		}
	}
	out := r.Clone(ctx)
	if err := c.strip(out, query); err != nil {
		return nil, err
	}
	if err := c.decode(out, from); err != nil {
		return nil, err
	}
	if c.operation == "PutObject" && (out.Header.Get("If-None-Match") != "" || out.Header.Get("If-Match") != "") {
		c.writeID = rand.Text()
		out.Header.Set(writeIDField, c.writeID)
	}
	if r.Method == http.MethodPost && out.Body != nil {
		return out, c.readPost(out)
	}
	return out, nil
}

// authenticate checks who sends a request, and returns its signature.
func (s *Store) authenticate(r *http.Request, query url.Values) (*signature, error) {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete:
	default: // a server that knows TRACE would send the signed header back
		return nil, refusal(http.StatusMethodNotAllowed, "MethodNotAllowed", "perdure proxy accepts GET, HEAD, PUT, POST and DELETE")
	}
	if s.config.Key.ID == "" {
		return &signature{payload: r.Header.Get(contentSHA256)}, nil
	}
	return s.config.Key.verify(r, query)
}

// admitPost refuses POSTs that carry their credentials in the body, and lets those be repeated that may be.
func (c *call) admitPost(ctx context.Context) (context.Context, error) {
	switch c.operation {
	case "CreateMultipartUpload", "CompleteMultipartUpload", "DeleteObjects", "SelectObjectContent":
		return httpretry.Idempotent(ctx), nil
	case "PostObject":
		return nil, refusal(http.StatusNotImplemented, "NotImplemented", "perdure proxy does not accept the upload of a browser's form: use PUT")
	}
	return ctx, nil
}

// readPost reads and checks the document of a POST before anything is sent.
func (c *call) readPost(out *http.Request) error {
	text, err := io.ReadAll(io.LimitReader(out.Body, maxDocument+1))
	switch {
	case c.refused.Load() != nil:
		return c.refused.Load()
	case err != nil:
		return refusal(http.StatusBadRequest, "IncompleteBody", "the body ends early")
	case len(text) > maxDocument:
		return refusal(http.StatusRequestEntityTooLarge, "EntityTooLarge", "the document of a POST may have "+strconv.Itoa(maxDocument)+" bytes")
	}
	if c.operation == "CompleteMultipartUpload" {
		c.whole = wholeTag(text)
	}
	out.Body = io.NopCloser(bytes.NewReader(text))
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	return nil
}

// strip removes the client's signature from r, and what is meant for its connection alone. What a presigned URL has in its query
// in place of a header becomes a header.
func (c *call) strip(r *http.Request, query url.Values) error {
	presigned := query.Has("X-Amz-Signature")
	for name, values := range query {
		lower := strings.ToLower(name)
		switch {
		case !strings.HasPrefix(lower, "x-amz-"):
			continue
		case isAuthParameter(lower):
		case presigned && r.Header.Get(name) == "":
			if strings.ContainsFunc(lower, notOfName) || slices.ContainsFunc(values, isControlled) {
				return refusal(http.StatusBadRequest, "InvalidRequest", "the presigned URL has a parameter that cannot be a header")
			}
			r.Header[http.CanonicalHeaderKey(name)] = values
		default:
			continue
		}
		delete(query, name)
	}
	r.URL.RawQuery = query.Encode()
	// Connection names headers that a proxy removes: without it all that are signed reach the store.
	for _, name := range []string{"Authorization", "X-Amz-Date", "Date", "X-Amz-Security-Token", contentSHA256, "Connection", "Upgrade"} {
		r.Header.Del(name)
	}
	r.TransferEncoding, r.Trailer = nil, nil
	return nil
}

// notOfName reports whether c cannot be in the lowercase name of a header of S3.
func notOfName(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' }

// isControlled reports whether a header cannot have this value.
func isControlled(value string) bool {
	return strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}

func isAuthParameter(lower string) bool {
	switch lower {
	case "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signedheaders", "x-amz-signature",
		"x-amz-security-token", "x-amz-content-sha256":
		return true
	}
	return false
}

// operationOf returns the S3 operation of a request, so far as the proxy treats it in its own way; else the method.
func operationOf(r *http.Request, query url.Values) string {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	object, itself := key != "", !isSubresource(query)
	switch r.Method {
	case http.MethodPost:
		return postOf(r, query, object)
	case http.MethodPut:
		if object {
			return putOf(r, query, itself)
		}
		if itself {
			return "CreateBucket"
		}
	case http.MethodGet:
		if object && itself {
			return "GetObject"
		}
	case http.MethodDelete:
		return deleteOf(query, object, itself)
	}
	return r.Method
}

// deleteOf is operationOf for a DELETE.
func deleteOf(query url.Values, object, itself bool) string {
	switch {
	case object && query.Has("uploadId"):
		return "AbortMultipartUpload"
	case object && itself:
		return "DeleteObject"
	case itself:
		return "DeleteBucket"
	}
	return http.MethodDelete
}

// putOf is operationOf for a PUT of an object.
func putOf(r *http.Request, query url.Values, itself bool) string {
	copies := r.Header.Get("X-Amz-Copy-Source") != ""
	switch {
	case query.Has("uploadId") && copies:
		return "UploadPartCopy"
	case query.Has("uploadId"):
		return "UploadPart"
	case copies:
		return "CopyObject"
	case itself:
		return "PutObject"
	}
	return http.MethodPut
}

// postOf is operationOf for a POST.
func postOf(r *http.Request, query url.Values, object bool) string {
	switch {
	case object && query.Has("uploads"):
		return "CreateMultipartUpload"
	case object && query.Has("uploadId"):
		return "CompleteMultipartUpload"
	case object && query.Has("select"):
		return "SelectObjectContent"
	case !object && query.Has("delete"):
		return "DeleteObjects"
	case strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data"):
		return "PostObject"
	}
	return http.MethodPost
}

// isSubresource reports whether the query asks for something else than the object or the bucket itself.
func isSubresource(query url.Values) bool {
	for name := range query {
		switch lower := strings.ToLower(name); {
		case lower == "x-id", lower == "versionid", lower == "partnumber", strings.HasPrefix(lower, "response-"), strings.HasPrefix(lower, "x-amz-"):
		default:
			return true
		}
	}
	return false
}

func refusal(status int, code, message string) error {
	return &proxy.Failure{Status: status, Code: code, Message: message}
}
