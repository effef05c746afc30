package httpretry_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

// An empty body of a GET whose digest is that of another body is an error, as one with bytes is. It used to be taken for
// complete. A response without a body, such as one to a HEAD, may have the digest of what a GET would return.
func TestDigestsOfEmptyBodies(t *testing.T) {
	other := map[string]string{
		"Content-Digest": "sha-256=:FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=:", "Repr-Digest": "sha-256=:FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=:", "Content-Md5": "JfnnlDI7RTiF9RgfG2JNCw==",
		"X-Amz-Checksum-Crc64nvme": "rosUhgp5mIg=", "X-Amz-Checksum-Sha1": "98O8HYCOBHMq32eZZczDTKeuNEE=",
	}
	empty := map[string]string{
		"Content-Digest": "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:", "Content-Md5": "1B2M2Y8AsgTpgAmY7PhCfg==",
		"X-Amz-Checksum-Crc64nvme": "AAAAAAAAAAA=", "Repr-Digest": "unknown=:AAAA:", "X-Amz-Checksum-Sha1": "98O8HYCOBHMq32eZZczDTKeuNEE=-2",
	}
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions} {
		for _, status := range []int{200, 203, 201, 204, 304, 404} {
			for _, framing := range []httptestfault.Framing{0, httptestfault.Chunked, httptestfault.UntilClose} {
				for wrong, headers := range map[bool]map[string]string{true: other, false: empty} {
					for name, value := range headers {
						what := fmt.Sprintf("%s, %d, framing %d, %s: %s", method, status, framing, name, value)
						server := httptestfault.New(httptestfault.Responses(httptestfault.Response{Status: status, Framing: framing, Header: http.Header{name: {value}}}))
						base := server.Transport()
						res, body, err := row{method: method}.do(t, server.URL, httpretry.NewTransport(base, httpretry.Options{Policy: quick()}))
						_, found := errors.AsType[*httpretry.DigestError](err)
						if want := wrong && method == http.MethodGet && (status == 200 || status == 203); found != want || (err != nil) != want || body != "" || res.StatusCode != status {
							t.Errorf("%s: %q, %v; an error of the digest: %t", what, body, err, want)
						}
						if n := len(server.Requests()); n != 1 {
							t.Errorf("%s: %d requests", what, n)
						}
						base.CloseIdleConnections()
						server.Close()
					}
				}
			}
		}
	}
}
