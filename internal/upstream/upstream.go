// Package upstream checks the upstreams of perdure proxy, which come from flags and from policy
// files.
package upstream

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// Reserved is the path of the proxy's own pages.
const Reserved = "/.perdure"

// Key reads what leads to an upstream: a path prefix, returned without the slash at its end, or the address of a listener of its
// own, whose paths all lead to it. An error names field.
func Key(field, text string) (prefix, listen string, err error) {
	if strings.HasPrefix(text, "/") {
		prefix, err = pathPrefix(field, text)
		return prefix, "", err
	}
	if err := Address(field, text); err != nil {
		return "", "", setting.Bad(field, text, "a path that begins with a slash, or an address: HOST:PORT or unix:PATH")
	}
	return "", text, nil
}

func pathPrefix(field, text string) (string, error) {
	prefix := strings.TrimRight(text, "/")
	u, err := url.ParseRequestURI(text)
	switch {
	case err != nil || u.EscapedPath() != text:
		return "", setting.Bad(field, text, "a path as URLs have it: without ? and #, other characters than those of URLs as in %20")
	case below(u.Path):
		return "", setting.Bad(field, text, "a prefix other than "+Reserved+", which has the proxy's own pages")
	}
	return prefix, nil
}

func below(path string) bool {
	return strings.HasPrefix(strings.TrimRight(path, "/")+"/", Reserved+"/")
}

// maxPath is how many bytes the path of a Unix socket may have.
const maxPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// Address checks the form of an address to listen on: HOST:PORT, or unix:PATH. An error names field.
func Address(field, text string) error {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		switch {
		case path == "" || path[0] == '@': // an abstract socket has no mode that keeps others out
			return setting.Bad(field, text, "unix:PATH, with the path of a file")
		case len(path) > maxPath:
			return setting.Bad(field, text, fmt.Sprintf("unix:PATH, with a path of at most %d bytes", maxPath))
		}
		return nil
	}
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return setting.Bad(field, text, "HOST:PORT, such as 127.0.0.1:9000, or unix:PATH")
	}
	if !isPort(port) {
		return setting.Bad(field, text, "HOST:PORT with a port from 0 to 65535; 0 means a free one")
	}
	return nil
}

func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}

var names = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$`)

// IsHost reports whether text is the name of a host or an IP address, without a port.
func IsHost(text string) bool { return names.MatchString(text) || net.ParseIP(text) != nil }

// Name checks a value of Host that clients may send: a name or an IP address, with or without a port. An error names field.
func Name(field, text string) error {
	host, port, err := net.SplitHostPort(text)
	if (err == nil && IsHost(host) && isPort(port)) || IsHost(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")) {
		return nil
	}
	return setting.Bad(field, text, "the name or the address of a host, with or without :PORT")
}

// URL returns the URL of an upstream, whose path has no slash at its end. An error names field.
func URL(field, text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, setting.Bad(field, text, "an http or https URL with a host, such as https://api.example.com")
	case u.User != nil:
		return nil, setting.Bad(field, u.Redacted(), "a URL without user and password: clients send their own")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, setting.Bad(field, text, "a URL without query and fragment")
	case u.Port() == "0" || u.Port() != "" && !isPort(u.Port()):
		return nil, setting.Bad(field, text, "a URL with a port from 1 to 65535, or without one")
	case !IsHost(strings.SplitN(u.Hostname(), "%", 2)[0]):
		return nil, setting.Bad(field, text, "a URL with the name or the address of a host")
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return u, nil
}
