package s3

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // as S3 does
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
)

const lookTime = 10 * time.Second // for a look at the object

// settle corrects the response to a request that an earlier attempt may have carried out: a client must not get a refusal
// that only the repetition met.
func (s *Store) settle(res *http.Response) error {
	c := callOf(res.Request.Context())
	if c == nil || !proxy.Unsure(res.Request.Context()) {
		return nil
	}
	switch res.StatusCode {
	case http.StatusNotFound, http.StatusPreconditionFailed, http.StatusConflict:
	default:
		return nil
	}
	refused := res.StatusCode == http.StatusPreconditionFailed
	switch c.operation {
	case "DeleteObject", "DeleteBucket", "AbortMultipartUpload":
		if res.StatusCode == http.StatusNotFound {
			replace(res, http.StatusNoContent, nil, nil)
			return nil
		}
	case "PutObject":
		if c.writeID != "" {
			return s.settlePut(c, res)
		}
	case "CompleteMultipartUpload":
		return s.settleComplete(c, res)
	case "CreateBucket":
		if text, _ := read(res, maxError); codeOf(text) == "BucketAlreadyOwnedByYou" {
			replace(res, http.StatusOK, nil, nil)
		}
		return nil
	case "CopyObject":
	default:
		return nil
	}
	if refused {
		return ambiguous(res)
	}
	return nil
}

// settlePut looks whether the object of the key is that of this put.
func (s *Store) settlePut(c *call, res *http.Response) error {
	object, err := s.look(res.Request, http.MethodHead, nil)
	if err != nil || object.Get(writeIDField) != c.writeID {
		return ambiguous(res)
	}
	replace(res, http.StatusOK, object, nil)
	return nil
}

// settleComplete looks whether the upload was completed: it exists no more, and the object has the ETag of its parts.
func (s *Store) settleComplete(c *call, res *http.Response) error {
	upload := url.Values{"uploadId": res.Request.URL.Query()["uploadId"], "max-parts": {"1"}}
	if _, err := s.look(res.Request, http.MethodGet, upload); err == nil {
		return nil // the upload is there: the refusal is true
	}
	object, err := s.look(res.Request, http.MethodHead, nil)
	if err != nil || c.whole == "" || strings.Trim(object.Get("Etag"), `"`) != c.whole {
		return ambiguous(res)
	}
	type result struct {
		XMLName struct{} `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUploadResult"`
		Bucket  string
		Key     string
		ETag    string
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(res.Request.URL.Path, "/"), "/")
	text, err := xml.Marshal(result{Bucket: bucket, Key: key, ETag: `"` + c.whole + `"`})
	if err != nil {
		return err
	}
	replace(res, http.StatusOK, object, append([]byte(xml.Header), text...))
	return nil
}

// look requests the object, or a subresource of it, and returns the header of a success.
func (s *Store) look(of *http.Request, method string, query url.Values) (http.Header, error) {
	c := &call{operation: "Look", payload: hexOf(nil)}
	ctx, cancel := context.WithTimeout(context.WithValue(of.Context(), callKey{}, c), lookTime)
	defer cancel()
	address := *of.URL
	address.RawQuery = query.Encode()
	req := (&http.Request{Method: method, URL: &address, Header: make(http.Header)}).WithContext(ctx)
	for name, values := range of.Header {
		if strings.HasPrefix(name, "X-Amz-Server-Side-Encryption-Customer-") || name == "X-Amz-Expected-Bucket-Owner" || name == "X-Amz-Request-Payer" {
			req.Header[name] = values
		}
	}
	res, err := s.looks.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("s3: %s", res.Status)
	}
	return res.Header, nil
}

// replace makes res a success. Of the object's header it has what the response to the lost attempt had.
func replace(res *http.Response, status int, object http.Header, body []byte) {
	res.Body.Close()
	header := http.Header{proxy.HeaderSettled: {"done by an earlier attempt, whose response was lost"}}
	for _, from := range []http.Header{res.Header, object} {
		for name, values := range from {
			switch {
			case name == "Etag", name == "X-Amz-Version-Id", name == "X-Amz-Request-Id", name == "X-Amz-Id-2", name == "Date", name == "Server",
				strings.HasPrefix(name, "X-Amz-Server-Side-Encryption"):
				header[name] = values
			}
		}
	}
	if len(body) > 0 {
		header.Set("Content-Type", "application/xml")
	}
	res.StatusCode, res.Status, res.Header, res.Trailer, res.TransferEncoding = status, "", header, nil, nil
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
}

// ambiguous returns the Failure of a request that may or may not have been carried out.
func ambiguous(res *http.Response) error {
	return &proxy.Failure{
		Status: http.StatusGatewayTimeout, Code: "OutcomeUnknown", Ambiguous: true,
		Message: fmt.Sprintf("the response of an earlier attempt was lost, and the next one got status %d: the request may have been carried out. Look at the object before you repeat it", res.StatusCode),
	}
}

// wholeTag returns the ETag that S3 gives to the object of a CompleteMultipartUpload, or "" if its document does not tell.
func wholeTag(document []byte) string {
	var parts struct{ Part []struct{ ETag string } }
	if err := xml.Unmarshal(document, &parts); err != nil || len(parts.Part) == 0 {
		return ""
	}
	all := md5.New() //nolint:gosec // as S3 does
	for _, part := range parts.Part {
		tag, err := hex.DecodeString(strings.Trim(part.ETag, `"`))
		if err != nil || len(tag) != md5.Size {
			return ""
		}
		all.Write(tag)
	}
	return fmt.Sprintf("%x-%d", all.Sum(nil), len(parts.Part))
}
