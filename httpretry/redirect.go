package httpretry

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/retry"
)

// CheckRedirect is for the field of that name of an [http.Client]; the clients of this package have it. It follows up to
// ten redirects, of which none gets to know more than it must:
//
//   - No redirect has a Referer, which may be a URL with a signature or a token in it, unless the caller has set one.
//   - Once a redirect leads to another scheme, host or port, it and those after it have none of the fields that grant
//     access: Authorization, Cookie, and those named as a key or a token. A [http.CookieJar] has rules of its own.
//   - A redirect leads to http or https, and claims no breaker otherwise.
//   - A redirect to the same scheme, host and port keeps the user and the password of the URL.
//
// It is safe for concurrent use.
func CheckRedirect(req *http.Request, via []*http.Request) error {
	const most = 10
	if len(via) >= most {
		return errors.New("stopped after 10 redirects")
	}
	if scheme := req.URL.Scheme; scheme != "http" && scheme != "https" {
		return retry.Permanent(fmt.Errorf("redirect to scheme %q: must be http or https", scheme))
	}
	first := via[0]
	if first.Header.Get("Referer") == "" {
		req.Header.Del("Referer")
	}
	same := Key(req) == Key(first)
	for _, r := range via {
		same = same && Key(r) == Key(first)
	}
	if same {
		if req.URL.User == nil {
			req.URL.User = first.URL.User
		}
		return nil
	}
	for name := range req.Header {
		if redact.SecretField(name) && !strings.HasSuffix(name, "Idempotency-Key") {
			delete(req.Header, name)
		}
	}
	return nil
}
