//go:build integration && unix

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// A chain is a web server that leads from /start to /end, here or on another one,
// which has the content.
type chain struct {
	*scene

	other   *front
	content []byte
}

// newChain makes one; lead gives an response to what neither is /end.
func newChain(t *testing.T, size int, lead func(c *chain, w http.ResponseWriter, r *http.Request)) *chain {
	t.Helper()
	c := &chain{scene: newScene(t), content: generated(size)}
	response := func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/end") {
			return page(w, r, c.content)
		}
		lead(c, w, r)
		return true
	}
	c.other = startFront(t, "", nil) // before anything is responded, which may ask for it
	c.web.responses(response)
	c.other.responses(response)
	return c
}

// elsewhere is the address of the other server, by another name of this host.
func (c *chain) elsewhere() string { return strings.Replace(c.other.URL, "127.0.0.1", "localhost", 1) }

// everywhere copies it to each kind of destination.
func (c *chain) everywhere(t *testing.T, from string) {
	t.Helper()
	for _, kind := range []string{"file", "-", "s3"} {
		e := c.copies(t, "", from, c.to(kind, "x"))
		if got := c.came(kind, "x", e); e.code != 0 || !bytes.Equal(got, c.content) {
			t.Errorf("to %s: %d bytes, want %d; %v", kind, len(got), len(c.content), e)
		}
	}
}

// signed is a query that no other server may see.
const signed = "?X-Amz-Signature=" + secret + "&token=" + secret

// A redirect tells no other server where it comes from: the address has a
// signature in it.
func TestRedirectsSendNoReferer(t *testing.T) {
	for _, size := range []int{10, 5 << 20} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			for _, far := range []bool{false, true} {
				c := newChain(t, size, func(c *chain, w http.ResponseWriter, r *http.Request) {
					to := "/end"
					if far {
						to = c.elsewhere() + to
					}
					http.Redirect(w, r, to, status)
				})
				c.everywhere(t, c.web.URL+"/start"+signed)
				for _, r := range append(c.web.requests(), c.other.requests()...) {
					if r.URL.Path == "/end" && (r.Referer() != "" || strings.Contains(fmt.Sprint(r.Header), secret)) {
						t.Fatalf("%d to another server (%v): it is told %q", status, far, r.Header)
					}
				}
			}
		}
	}
}

// User and password of a URL go along where a redirect stays at the host and port,
// and nowhere else.
func TestPasswordsGoNowhereElse(t *testing.T) {
	for name, to := range map[string]func(c *chain) string{
		"a path":               func(*chain) string { return "/end" },
		"the same, in full":    func(c *chain) string { return c.web.URL + "/end" },
		"by two steps":         func(*chain) string { return "/step" },
		"another port":         func(c *chain) string { return c.other.URL + "/end" },
		"another name":         func(c *chain) string { return strings.Replace(c.web.URL, "127.0.0.1", "localhost", 1) + "/end" },
		"another host":         func(c *chain) string { return c.elsewhere() + "/end" },
		"another user's":       func(c *chain) string { return strings.Replace(c.other.URL, "://", "://x:y@", 1) + "/end" },
		"there and back again": func(c *chain) string { return c.other.URL + "/back" },
	} {
		t.Run(name, func(t *testing.T) {
			c := newChain(t, 5<<20, func(c *chain, w http.ResponseWriter, r *http.Request) {
				target := to(c)
				switch r.URL.Path {
				case "/step":
					target = "/end"
				case "/back":
					target = c.web.URL + "/end"
				}
				http.Redirect(w, r, target, http.StatusFound)
			})
			c.everywhere(t, strings.Replace(c.web.URL, "://", "://me:"+secret+"@", 1)+"/start")
			host := strings.TrimPrefix(c.web.URL, "http://")
			for _, r := range append(c.web.requests(), c.other.requests()...) {
				user, password, _ := r.BasicAuth()
				ours := user == "me" && password == secret
				if same := r.Host == host; ours != same && name != "there and back again" || ours && !same {
					t.Errorf("%s%s is told the password: %v", r.Host, r.URL.Path, ours)
				}
			}
		})
	}
}

// What a server sets as a cookie, it gets again within one copy; another server
// does not, nor does the next copy.
func TestCookiesWithinOneCopy(t *testing.T) {
	for _, size := range []int{10, 5 << 20} {
		s := newScene(t)
		content := generated(size)
		other := startFront(t, "", nil)
		var missing atomic.Int64
		s.web.responses(func(w http.ResponseWriter, r *http.Request) bool {
			switch cookie, err := r.Cookie("session"); {
			case r.URL.Path == "/start":
				if err == nil {
					t.Errorf("a copy begins with a cookie of another: %v", cookie)
				}
				http.SetCookie(w, &http.Cookie{Name: "session", Value: "s1", Path: "/"})
				http.Redirect(w, r, "/x", http.StatusFound)
			case r.URL.Path == "/far":
				http.SetCookie(w, &http.Cookie{Name: "session", Value: "s1", Path: "/"})
				http.Redirect(w, r, strings.Replace(other.URL, "127.0.0.1", "localhost", 1)+"/x", http.StatusFound)
			case r.URL.Path == "/near": // another port
				http.SetCookie(w, &http.Cookie{Name: "session", Value: "s1", Path: "/"})
				http.Redirect(w, r, other.URL+"/x", http.StatusFound)
			case err != nil || cookie.Value != "s1":
				missing.Add(1)
				w.WriteHeader(http.StatusForbidden)
			default:
				return page(w, r, content)
			}
			return true
		})
		other.responses(func(w http.ResponseWriter, r *http.Request) bool { return page(w, r, content) })
		for _, kind := range []string{"file", "-", "s3"} {
			e := s.copies(t, "", s.web.URL+"/start", s.to(kind, "x"))
			if got := s.came(kind, "x", e); e.code != 0 || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, to %s: %d bytes, %d requests without the cookie; %v", size, kind, len(got), missing.Load(), e)
			}
		}
		s.runs(t, 0, s.web.URL+"/far", filepath.Join(s.dir, "far"))
		s.runs(t, 0, s.web.URL+"/near", filepath.Join(s.dir, "near"))
		for _, r := range other.requests() {
			if len(r.Cookies()) > 0 {
				t.Errorf("another server gets %v", r.Cookies())
			}
		}
	}
}

// A 203, of which a proxy says that it has changed it, is a success.
func TestNonAuthoritativeResponse(t *testing.T) {
	for _, size := range []int{0, 10, 9 << 20} {
		s := newScene(t)
		content := generated(size)
		s.web.responses(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			w.WriteHeader(http.StatusNonAuthoritativeInfo)
			_, _ = w.Write(content)
			return true
		})
		for _, kind := range []string{"file", "-", "s3"} {
			e := s.copies(t, "", s.web.URL+"/x", s.to(kind, "x"))
			if got := s.came(kind, "x", e); e.code != 0 || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, to %s: %d bytes; %v", size, kind, len(got), e)
			}
		}
	}
}
