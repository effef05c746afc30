package httpretry_test

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-0f2c7998/perdure/httpretry"
)

// A leak is a secret that a server received with a redirected request.
func leak(r *http.Request) string {
	user, password, _ := r.BasicAuth()
	parts := []string{"referer=" + r.Referer(), "user=" + user + ":" + password}
	for _, name := range []string{"Cookie", "X-Api-Key", "X-Amz-Security-Token", "X-Amz-Server-Side-Encryption-Customer-Key", "Idempotency-Key", "Accept"} {
		if value := r.Header.Get(name); value != "" {
			parts = append(parts, strings.ToLower(name)+"="+value)
		}
	}
	return strings.Join(parts, " ")
}

func TestRedirects(t *testing.T) {
	var seen []string
	note := func(r *http.Request) { seen = append(seen, leak(r)) }
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note(r)
		if back := r.URL.Query().Get("back"); back != "" {
			http.Redirect(w, r, back, http.StatusFound)
		}
	}))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusTemporaryRedirect)
			return
		}
		note(r)
	}))
	defer server.Close()
	secrets := http.Header{
		"Cookie": {"c=1"}, "X-Api-Key": {"k"}, "X-Amz-Security-Token": {"t"}, "X-Amz-Server-Side-Encryption-Customer-Key": {"s"},
		"Idempotency-Key": {"i"}, "Accept": {"text/csv"},
	}
	const all = "cookie=c=1 x-api-key=k x-amz-security-token=t x-amz-server-side-encryption-customer-key=s idempotency-key=i accept=text/csv"
	const none = "idempotency-key=i accept=text/csv"
	elsewhere := strings.Replace(other.URL, "127.0.0.1", "localhost", 1)
	for _, tt := range []struct {
		name, to string
		referer  string
		want     []string
	}{
		{"a path", "/y", "", []string{"referer= user=me:pw " + all}},
		{"the same address", server.URL + "/y", "", []string{"referer= user=me:pw " + all}},
		{"another port", other.URL + "/y", "", []string{"referer= user=: " + none}},
		{"another host", elsewhere + "/y", "", []string{"referer= user=: " + none}},
		{"with a user of its own", strings.Replace(elsewhere, "//", "//you:theirs@", 1) + "/y", "", []string{"referer= user=you:theirs " + none}},
		{"there and back", elsewhere + "/?back=" + url.QueryEscape(server.URL+"/y"), "", []string{"referer= user=: " + none, "referer= user=: " + none}},
		{"a Referer of the caller's", elsewhere + "/y", "https://example.org/", []string{"referer=https://example.org/ user=: " + none}},
	} {
		seen = nil
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.Replace(server.URL, "//", "//me:pw@", 1)+"/x?X-Amz-Signature=secret&to="+url.QueryEscape(tt.to), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = secrets.Clone()
		if tt.referer != "" {
			req.Header.Set("Referer", tt.referer)
		}
		res, err := httpretry.Client(quick()).Do(req)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		res.Body.Close()
		if !slices.Equal(seen, tt.want) {
			t.Errorf("%s: the servers saw\n%q, want\n%q", tt.name, seen, tt.want)
		}
	}
}

func request(t *testing.T, client *http.Client, url string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return client.Do(req)
}

func TestRedirectsEnd(t *testing.T) {
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		http.Redirect(w, r, "/", http.StatusFound)
	}))
	defer server.Close()
	res, err := request(t, httpretry.Client(quick()), server.URL)
	if err == nil || n != 10 {
		t.Errorf("%d requests, %v, want an error after 10", n, err)
	}
	if res != nil {
		res.Body.Close()
	}
}

// A jar is the client's, and its cookies go along with the redirects of one request.
func TestRedirectsWithCookies(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie("pass"); err != nil || c.Value != "1" {
			http.SetCookie(w, &http.Cookie{Name: "pass", Value: "1"})
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}
	}))
	defer server.Close()
	client := httpretry.Client(quick())
	client.Jar, _ = cookiejar.New(nil)
	res, err := request(t, client, server.URL+"/x")
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v, want 200", res, err)
	}
	res.Body.Close()
}

func TestHostileResponsesAreLimited(t *testing.T) {
	const mib = 1 << 20
	bomb := func(w io.Writer) {
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		for z.Flush() == nil {
			if _, err := z.Write(make([]byte, mib)); err != nil {
				return
			}
		}
	}
	for name, tt := range map[string]struct {
		header   http.Header
		status   int
		body     func(io.Writer)
		requests int32
		limit    bool // it is a LimitError
	}{
		"header":                   {http.Header{"X-Long": {strings.Repeat("x", 2*mib)}}, 200, nil, 1, true},
		"header of many fields":    {http.Header{"X-Long": slices.Repeat([]string{strings.Repeat("x", 1000)}, 1100)}, 200, nil, 1, true},
		"header of an error":       {http.Header{"X-Long": {strings.Repeat("x", 2*mib)}}, 503, nil, 1, true},
		"endless error":            {nil, 503, func(w io.Writer) { endless(w) }, 3, false},
		"endless error, zipped":    {http.Header{"Content-Encoding": {"gzip"}}, 503, bomb, 3, false},
		"length of 2^62":           {http.Header{"Content-Length": {"4611686018427387904"}}, 200, nil, 1, false},
		"length of 2^62, resumed":  {http.Header{"Content-Length": {"4611686018427387904"}, "Etag": {`"v1"`}}, 200, nil, 3, false},
		"error with such a length": {http.Header{"Content-Length": {"4611686018427387904"}}, 503, nil, 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			var requests, taken atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				maps.Copy(w.Header(), tt.header)
				w.WriteHeader(tt.status)
				if tt.body != nil {
					tt.body(counter{w, &taken})
				}
			}))
			defer server.Close()
			client := &http.Client{Transport: httpretry.NewTransport(&http.Transport{}, httpretry.Options{Policy: quick(), OnResume: func(httpretry.Resumption) {}})}
			defer client.CloseIdleConnections()
			res, err := request(t, client, server.URL)
			if err == nil {
				if res.StatusCode == http.StatusOK {
					_, err = io.ReadAll(res.Body)
				} else {
					err = httpretry.GaveUp(res)
				}
				res.Body.Close()
			}
			if e := new(httpretry.LimitError); err == nil || errors.As(err, &e) != tt.limit {
				t.Errorf("%v, want a LimitError: %t", err, tt.limit)
			}
			if requests.Load() < tt.requests || tt.limit && requests.Load() > tt.requests {
				t.Errorf("%d requests, want %d", requests.Load(), tt.requests)
			}
			if taken.Load() > 3*16*mib {
				t.Errorf("%d bytes of error bodies were taken", taken.Load())
			}
		})
	}
}

// endless writes until the client has gone.
func endless(w io.Writer) {
	for {
		if _, err := w.Write(make([]byte, 64<<10)); err != nil {
			return
		}
	}
}

type counter struct {
	io.Writer
	n *atomic.Int32
}

func (c counter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n.Add(int32(n))
	return n, err
}

// An error quotes a malformed response, which may echo the request.
func TestErrorsShowNoSecretsThatComeBack(t *testing.T) {
	for name, reply := range map[string]string{
		"no field":   "HTTP/1.1 200 OK\r\n%s \x1b[31m\r\n\r\n",
		"no status":  "HTTP/1.1 %s\r\n\r\n",
		"no version": "%s\r\n\r\n",
		"no length":  "HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprintf(conn, reply, r.Header.Get("Authorization"))
			conn.Close()
		}))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer secret-token")
		res, err := httpretry.Client(quick()).Do(req)
		if err == nil {
			res.Body.Close()
		}
		if text := fmt.Sprint(err); err == nil || strings.Contains(text, "secret-token") || strings.Contains(text, "\x1b") {
			t.Errorf("%s: %q", name, text)
		}
		server.Close()
	}
}
