package endpoint

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"sync"

	"github.com/seed-0f2c7998/perdure/httpretry"
)

// A cookies has the cookies of each scheme, host and port: a [cookiejar.Jar] alone sends them to all ports of a host, and to those
// hosts that their Domain names. It is safe for concurrent use.
type cookies struct {
	mu   sync.Mutex
	jars map[string]*cookiejar.Jar // guarded by mu
}

func (c *cookies) SetCookies(u *url.URL, all []*http.Cookie) { c.of(u).SetCookies(u, all) }
func (c *cookies) Cookies(u *url.URL) []*http.Cookie         { return c.of(u).Cookies(u) }

func (c *cookies) of(u *url.URL) *cookiejar.Jar {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := httpretry.Key(&http.Request{URL: u})
	if c.jars[key] == nil {
		c.jars[key], _ = cookiejar.New(nil) // never fails
	}
	return c.jars[key]
}
