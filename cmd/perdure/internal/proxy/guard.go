package proxy

import (
	"net"
	"net/http"
	"slices"
	"strings"
)

// A guard refuses requests that a program of this user would not send: those of a web page, and those for another host.
type guard struct {
	names []string // values of Host, with their port
	unix  bool
}

// newGuard returns the guard of a proxy that listens on address.
func newGuard(address net.Addr, more []string) guard {
	g := guard{}
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return guard{unix: true, names: more}
	}
	_, port, _ := net.SplitHostPort(address.String())
	hosts := append([]string{tcp.IP.String()}, more...)
	if tcp.IP.IsLoopback() || tcp.IP.IsUnspecified() {
		hosts = append(hosts, "localhost", "127.0.0.1", "::1")
	}
	for _, host := range hosts {
		if _, _, err := net.SplitHostPort(host); err == nil {
			g.names = append(g.names, host)
			continue
		}
		g.names = append(g.names, net.JoinHostPort(host, port))
		if port == "80" {
			g.names = append(g.names, host)
		}
	}
	return g
}

// check returns why r is refused, or nil.
func (g guard) check(r *http.Request) *Failure {
	switch {
	case r.Method == http.MethodConnect, r.URL.IsAbs() && r.URL.Scheme != "http", r.URL.Host != "" && !g.allows(r.URL.Host), !g.allows(r.Host):
		return &Failure{
			Status: http.StatusMisdirectedRequest, Code: "not_this_host",
			Message: "this is no open proxy: the Host of a request must be the address that perdure proxy listens on",
		}
	case len(r.Header["Origin"]) > 0, slices.ContainsFunc(r.Header["Sec-Fetch-Site"], func(site string) bool { return site != "none" }):
		return &Failure{Status: http.StatusForbidden, Code: "web_page", Message: "requests of web pages are refused"}
	case r.URL.Path == "" || r.URL.Path[0] != '/' && r.URL.Path != "*":
		return &Failure{Status: http.StatusBadRequest, Code: "bad_path", Message: "the path must begin with a slash"}
	}
	return nil
}

// allows reports whether clients may address the proxy as host.
func (g guard) allows(host string) bool {
	host = strings.ToLower(host)
	if g.unix && (host == "" || slices.Contains([]string{"localhost", "127.0.0.1", "[::1]", "unix", "perdure"}, withoutPort(host))) {
		return true
	}
	return slices.ContainsFunc(g.names, func(name string) bool { return strings.EqualFold(name, host) })
}

// dropOwn removes the fields that only the proxy may send: its responses say with them what it has done.
func dropOwn(h http.Header) {
	for name := range h {
		if strings.HasPrefix(name, "Perdure-") {
			delete(h, name)
		}
	}
}

// withoutPort returns host without its port.
func withoutPort(host string) string {
	if colon := strings.LastIndexByte(host, ':'); colon > strings.LastIndexByte(host, ']') {
		return host[:colon]
	}
	return host
}
