package request

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// A network responds with the redirects of a test, and records the requests.
type network struct {
	redirects map[string]string
	got       []string
}

func (n *network) RoundTrip(req *http.Request) (*http.Response, error) {
	n.got = append(n.got, fmt.Sprintf("%s %s %s|%s|%s", req.URL, req.Host, req.Header.Get("Authorization"), req.Header.Get("X-Mine"), req.Header.Get("User-Agent")))
	res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), Request: req}
	if to := n.redirects[req.URL.String()]; to != "" {
		res.StatusCode, res.Header = http.StatusFound, http.Header{"Location": {to}}
	}
	return res, nil
}

// Fields are sent to one scheme, host and port: neither from https to http nor the other way, nor to a subdomain, nor when a
// redirect leads back. The default port is the same port.
func TestCheckRedirect(t *testing.T) {
	const first = "https://example.org/"
	for _, row := range []struct {
		to   []string
		kept bool // by the last request
	}{
		{[]string{"/x"}, true},
		{[]string{"https://example.org:443/x"}, true},
		{[]string{"/x", "/y"}, true},
		{[]string{"http://example.org/"}, false},
		{[]string{"https://example.org:8443/"}, false},
		{[]string{"https://www.example.org/"}, false},
		{[]string{"https://example.com/"}, false},
		{[]string{"//example.com/"}, false},
		{[]string{"http://example.org/", "https://example.org/z"}, false},
		{[]string{"https://example.com/", "https://example.org/z"}, false},
		{[]string{"https://example.com/", "https://example.com/z"}, false},
		{[]string{"https://example.org./"}, false},
		{[]string{"https://user:x@example.com/"}, false},
	} {
		r := &Request{}
		for _, line := range []string{"Authorization: Bearer x", "X-Mine: yes", "Host: inner", "User-Agent: mine"} {
			if err := r.Add(line); err != nil {
				t.Fatal(err)
			}
		}
		n, at := &network{redirects: map[string]string{}}, first
		for _, to := range row.to {
			n.redirects[at] = to
			switch {
			case strings.HasPrefix(to, "//"):
				at = "https:" + to
			case strings.HasPrefix(to, "/"):
				at = "https://example.org" + to
			default:
				at = to
			}
		}
		req, err := r.New(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		res, err := (&http.Client{Transport: n, CheckRedirect: r.CheckRedirect}).Do(req)
		if err != nil {
			t.Fatalf("%v: %v", row.to, err)
		}
		_ = res.Body.Close()
		last := n.got[len(n.got)-1]
		if len(n.got) != len(row.to)+1 || strings.Contains(last, "Bearer x|yes|mine") != row.kept || !row.kept && (strings.Contains(last, "Bearer") || strings.Contains(last, "yes") || strings.Contains(last, "inner") || !strings.HasSuffix(last, agent)) {
			t.Errorf("%v: fields kept must be %v, but the requests are %q", row.to, row.kept, n.got)
		}
	}
}

// An identity has the fields by which servers choose, and no secrets.
func TestIdentity(t *testing.T) {
	a := &Request{Header: http.Header{"Accept": {"text/csv"}, "Authorization": {"hunter2"}, "X-Token": {"hunter2"}}}
	b := &Request{Header: http.Header{"Accept": {"text/csv"}, "Authorization": {"another"}}}
	c := &Request{Header: http.Header{"Accept": {"text/html"}}}
	if a.Identity() != b.Identity() || a.Identity() == c.Identity() || strings.Contains(a.Identity(), "hunter2") || new(Request).Identity() != "" {
		t.Errorf("%q, %q, %q", a.Identity(), b.Identity(), c.Identity())
	}
}

// No text makes the parser fail otherwise than with an error, and no error shows a word of it.
func FuzzNetrc(f *testing.F) {
	for _, text := range []string{"machine a login b password hunter2", "default login \"x\\\"", "macdef x\n\nmachine", "# x\n\"", "machine a\nlogin", "hunter2 hunter2"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseNetrc("netrc", text)
		if err == nil {
			_, err = n.Find("a")
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	})
}
