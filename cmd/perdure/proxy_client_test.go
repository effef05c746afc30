//go:build unix

package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"testing"
)

// A client with a cookie jar that follows redirects stays with the proxy, and its cookie returns to the upstream that set it;
// trailers pass both ways.
func TestAClientStaysWithTheProxy(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/v1/login":
			http.SetCookie(w, &http.Cookie{Name: "session", Value: "7", Path: "/v1", Domain: "127.0.0.1", Secure: true})
			http.Redirect(w, r, "http://"+r.Host+"/v1/home?x=1", http.StatusFound)
		case "/v1/home":
			w.Header().Set("Trailer", "Sum")
			cookie, err := r.Cookie("session")
			if err == nil {
				_, _ = io.WriteString(w, "home "+cookie.Value+" "+r.URL.RawQuery+" "+r.Trailer.Get("Check"))
			}
			w.Header().Set("Sum", "42")
		}
	}))
	t.Cleanup(s.Close)
	_, at, log := serveProxy(t, "--to", "/p="+s.URL+"/v1")
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	for _, step := range []struct{ method, path, want string }{{http.MethodGet, "/p/login", "home 7 x=1 "}, {http.MethodPut, "/p/home", "home 7  9"}} {
		req, err := http.NewRequestWithContext(t.Context(), step.method, at+step.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if step.method == http.MethodPut {
			req.Body, req.ContentLength, req.Trailer = io.NopCloser(bytes.NewReader([]byte("x"))), -1, http.Header{"Check": {"9"}}
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(body) != step.want || res.Trailer.Get("Sum") != "42" || "http://"+res.Request.URL.Host != at {
			t.Errorf("%s %s: %q, %v, trailer %v, at %s\n%s", step.method, step.path, body, err, res.Trailer, res.Request.URL, log)
		}
	}
	if root, _ := url.Parse(at + "/other"); len(jar.Cookies(root)) > 0 {
		t.Error("the cookie would go to other upstreams")
	}
}

// --spool bounds the bodies that are kept: one that does not fit is sent once.
func TestSpoolBoundsBodies(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(s.Close)
	_, at, log := serveProxy(t, "--to", s.URL, "--spool", "2", "--preset", "default", "--base-delay", "1ms", "--jitter", "0", "--max-attempts", "3", "--failure-threshold", "off")
	for _, tt := range []struct {
		size     int
		attempts string
	}{{1 << 10, "3"}, {1 << 20, "3"}, {5 << 20, "1"}, {1 << 20, "3"}} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, at, bytes.NewReader(make([]byte, tt.size)))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Get("Perdure-Attempts"); got != tt.attempts || res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%d bytes: %s after %s attempts, want %s\n%s", tt.size, res.Status, got, tt.attempts, log)
		}
	}
}
