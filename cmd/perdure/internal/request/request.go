// Package request has what a user adds to the requests for a URL: header fields, credentials of a netrc file, a method and a
// body. None of it leaves the scheme, host and port of that URL, and none of it is in an error.
package request

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Request has the additions to the requests for one URL. The zero Request adds nothing. It is safe for concurrent use
// while its fields do not change.
type Request struct {
	Header     http.Header // in canonical form; the field Host names another host to the server
	Method     string      // "" means GET
	Body       []byte      // nil means no body
	Idempotent bool        // a POST may be repeated
	Netrc      *Netrc      // has the user and the password of the host; nil means none
}

// agent is the User-Agent, unless the user names one.
const agent = "perdure"

// New returns the request for a URL.
func (r *Request) New(ctx context.Context, address string) (*http.Request, error) {
	var body io.Reader
	if r.Body != nil {
		body = bytes.NewReader(r.Body)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, address, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", agent)
	if r.Body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded") // as curl does
	}
	maps.Copy(req.Header, r.Header)
	if host := r.Header.Get("Host"); host != "" {
		req.Host = host
		req.Header.Del("Host")
	}
	return req, r.addLogin(req)
}

// addLogin adds the user and the password that the netrc file has for the host.
func (r *Request) addLogin(req *http.Request) error {
	if r.Netrc == nil {
		return nil
	}
	switch {
	case req.URL.User != nil:
		return errors.New("--netrc cannot be used with a URL that has a user: remove one of them")
	case req.Header.Get("Authorization") != "":
		return errors.New("--netrc cannot be used with the header field Authorization; remove one of them")
	}
	login, err := r.Netrc.Find(req.URL.Hostname())
	if err == nil {
		req.SetBasicAuth(login.User, login.Password)
	}
	return err
}

// MayRepeat reports whether req, of New, may be sent again after the server may have processed it.
func (r *Request) MayRepeat() bool {
	return r.Method != http.MethodPost || r.Idempotent || r.Header.Get("Idempotency-Key") != "" || r.Header.Get("X-Idempotency-Key") != ""
}

// CheckRedirect is for [http.Client.CheckRedirect]. Besides what [httpretry.CheckRedirect] does, it removes all header fields
// of r once a redirect has left the scheme, host and port of the first request, and does not send the body elsewhere.
func (r *Request) CheckRedirect(req *http.Request, via []*http.Request) error {
	if err := httpretry.CheckRedirect(req, via); err != nil {
		return err
	}
	same := SameOrigin(req, via[0])
	for _, v := range via {
		same = same && SameOrigin(v, via[0])
	}
	if same {
		return nil
	}
	if req.Body != nil && req.Body != http.NoBody {
		return retry.Permanent(errors.New("redirect to another scheme, host or port: --data is sent to that of the URL only"))
	}
	req.Host = ""
	for name := range r.Header {
		req.Header.Del(name)
	}
	req.Header.Del("Content-Type")
	req.Header.Set("User-Agent", agent)
	return nil
}

// SameOrigin reports whether both requests go to the same scheme, host and port.
func SameOrigin(a, b *http.Request) bool { return httpretry.Key(a) == httpretry.Key(b) }

// plain are header fields whose values are no secrets.
var plain = []string{"Accept", "Accept-Charset", "Accept-Language", "Cache-Control", "Content-Type", "Host", "Origin", "Pragma", "Prefer", "Referer", "User-Agent"} //nolint:gochecknoglobals // a table

// Identity identifies, without secrets, the header fields by which a server may choose between representations.
func (r *Request) Identity() string {
	var all strings.Builder
	for _, name := range plain {
		for _, value := range r.Header[name] {
			all.WriteString("\n" + name + ": " + value)
		}
	}
	return all.String()
}
