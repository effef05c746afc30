package proxy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/internal/upstream"
	"github.com/seed-0f2c7998/perdure/retry"
)

// An Upstream is a server, and the paths of the proxy that lead to it.
type Upstream struct {
	Prefix   string          // "" or a path without a slash at its end
	Listen   string          // what Listen opens for it alone; "" means the address that others share
	Source   string          // what an error about Listen names
	At       net.Addr        // of the listener; nil means the first of New
	URL      *url.URL        // scheme, host and path; the path has no slash at its end
	Named    string          // the policy that a flag or a file names; "" means none
	Policy   *retry.Policy   // of its requests; nil means that of the Config
	Breakers *circuit.Config // of its server; nil means that of the Config

	transport http.RoundTripper
	site      *site
}

// A site is what clients of one listener reach.
type site struct {
	address   net.Addr
	guard     guard
	upstreams []*Upstream // longer prefixes first
}

// base returns the URL of the site for clients of other listeners, without a path; "" if they cannot have one.
func (s *site) base() string {
	if s.guard.unix {
		return ""
	}
	return "http://" + s.address.String()
}

type siteKey struct{}

// Reserved is the path of the proxy's own pages.
const Reserved = upstream.Reserved

// ParseUpstreams reads upstreams in the form URL, /PREFIX=URL or ADDRESS=URL, each with or without ,policy=NAME behind it. An
// error names field.
func ParseUpstreams(field string, texts []string) ([]Upstream, error) {
	var all []Upstream
	for _, text := range texts {
		u, err := parseUpstream(field, text)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(other Upstream) bool { return other.Prefix == u.Prefix && other.Listen == u.Listen }) {
			return nil, setting.Bad(field, text, "one upstream for each path prefix and each address")
		}
		all = append(all, u)
	}
	return all, nil
}

func parseUpstream(field, text string) (u Upstream, err error) {
	u.Source = field
	key, address, keyed := strings.Cut(text, "=")
	switch {
	case keyed && !strings.Contains(key, "://"):
		if u.Prefix, u.Listen, err = upstream.Key(field, key); err != nil {
			return u, err
		}
	case strings.HasPrefix(text, "/"), strings.HasPrefix(text, "unix:"):
		return u, setting.Bad(field, text, "URL, /PREFIX=URL or ADDRESS=URL")
	default:
		address = text
	}
	if at := strings.LastIndex(address, policyMark); at >= 0 {
		u.Named, address = address[at+len(policyMark):], address[:at]
		if u.Named == "" {
			return u, setting.Bad(field, text, "URL,policy=NAME")
		}
	}
	u.URL, err = upstream.URL(field, address)
	return u, err
}

const policyMark = ",policy="

// find returns the upstream with the longest prefix of an escaped path, or nil.
func (s *site) find(path string) *Upstream {
	for _, u := range s.upstreams {
		if _, ok := below(path, u.Prefix); ok || path == "*" && u.Prefix == "" {
			return u
		}
	}
	return nil
}

// below returns the rest of path after prefix, with its slash, if path is prefix or below it.
func below(path, prefix string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(path, prefix)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// address sets the URL of a request to the upstream. Escapes in the path are kept as the client sent them.
func (u *Upstream) address(out *http.Request, in *url.URL) {
	out.URL.Scheme, out.URL.Host = u.URL.Scheme, u.URL.Host
	if in.Path == "*" {
		return
	}
	rest, _ := below(in.EscapedPath(), u.Prefix)
	if rest == "" && u.URL.Path == "" {
		rest = "/"
	}
	escaped := u.URL.EscapedPath() + rest
	if path, err := url.PathUnescape(escaped); err == nil {
		out.URL.Path, out.URL.RawPath = path, escaped
	}
}

// back returns the path of the site that leads to a URL of one of its upstreams. If none has it, ok is false.
func (s *site) back(to *url.URL) (path string, ok bool) {
	best := -1
	for _, u := range s.upstreams {
		if !sameServer(u.URL, to) {
			continue
		}
		rest, under := below(to.EscapedPath(), u.URL.EscapedPath())
		if under && len(u.URL.Path) > best {
			best, path = len(u.URL.Path), u.Prefix+rest
		}
	}
	return cmp.Or(path, "/"), best >= 0
}

// back returns what leads a client of s to a URL of an upstream: a path of s if there is one, else a URL of another site.
func (p *Proxy) back(s *site, to *url.URL) (leads string, ok bool) {
	if path, ok := s.back(to); ok {
		return path, true
	}
	for _, other := range p.sites {
		if path, ok := other.back(to); ok && other.base() != "" {
			return other.base() + path, true
		}
	}
	return "", false
}

func sameServer(a, b *url.URL) bool { return server(a) == server(b) }

func server(u *url.URL) string { return httpretry.Key(&http.Request{URL: u}) }

// A perUpstream sends each request by the transport of its upstream.
type perUpstream struct{}

// RoundTrip sends a request of an exchange.
func (perUpstream) RoundTrip(req *http.Request) (*http.Response, error) {
	return exchangeOf(req.Context()).upstream.transport.RoundTrip(req)
}

// CheckBreakers returns the error of two upstreams of one server, which has one circuit breaker, whose settings differ.
func CheckBreakers(all []Upstream) error {
	first := make(map[string]Upstream)
	for _, u := range all {
		f, ok := first[server(u.URL)]
		if !ok {
			first[server(u.URL)] = u
			continue
		}
		was, err := json.Marshal(f.Breakers)
		is, failed := json.Marshal(u.Breakers)
		if err != nil || failed != nil || !bytes.Equal(was, is) {
			return setting.Bad("the policies of "+f.Prefix+"/ and "+u.Prefix+"/", []string{f.Named, u.Named},
				"ones with the same circuit breaker: both lead to "+server(u.URL)+", which has one")
		}
	}
	return nil
}

// reference returns text, a URL in a response to a request to the URL from, so that it leads back through the proxy. A
// URL of another server stays as it is.
func (p *Proxy) reference(s *site, from *url.URL, text string) string {
	to, err := from.Parse(text)
	if err != nil || to.Scheme != "http" && to.Scheme != "https" || !strings.HasPrefix(text, "/") && !isAbsolute(text) {
		return text // a relative path leads to the right place by itself
	}
	path, ok := p.back(s, to)
	if !ok {
		return to.String() // an absolute path that no prefix leads to
	}
	if to.RawQuery != "" || to.ForceQuery {
		path += "?" + to.RawQuery
	}
	if to.Fragment != "" {
		path += "#" + to.EscapedFragment()
	}
	return path
}

func isAbsolute(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.IsAbs()
}

var linked = regexp.MustCompile(`<[^<>]*>`)

// redirect makes the URLs and cookies in the header of a response lead back through the proxy.
func (p *Proxy) redirect(u *Upstream, h http.Header, from *url.URL) {
	for _, name := range []string{"Location", "Content-Location"} {
		for i, value := range h[name] {
			h[name][i] = p.reference(u.site, from, value)
		}
	}
	for i, value := range h["Link"] {
		h["Link"][i] = linked.ReplaceAllStringFunc(value, func(link string) string {
			return "<" + p.reference(u.site, from, link[1:len(link)-1]) + ">"
		})
	}
	for i, value := range h["Set-Cookie"] {
		h["Set-Cookie"][i] = u.cookie(value)
	}
}

// cookie returns a Set-Cookie that a client of the proxy sends back to the same upstream only: without Domain, which names
// the upstream's host, and without Secure, because the proxy speaks plain http.
func (u *Upstream) cookie(text string) string {
	parts := strings.Split(text, ";")
	kept := parts[:1]
	for _, part := range parts[1:] {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch strings.ToLower(name) {
		case "domain", "secure":
		case "path":
			rest, ok := below(value, u.URL.EscapedPath())
			if !ok {
				rest = "" // the cookie is for a wider path, of which the proxy has this part
			}
			path := u.Prefix + rest
			if path == "" {
				path = "/"
			}
			kept = append(kept, " Path="+path)
		default:
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, ";")
}
