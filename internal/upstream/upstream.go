// Package upstream checks the upstreams of perdure proxy, which come from flags and from policy
// files.
package upstream

import (
	"net/url"
	"strings"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// Reserved is the path of the proxy's own pages.
const Reserved = "/.perdure"

// Prefix returns a path prefix without the slash at its end. An error names field.
func Prefix(field, text string) (string, error) {
	prefix := strings.TrimRight(text, "/")
	switch {
	case !strings.HasPrefix(text, "/"):
		return "", setting.Bad(field, text, "a path that begins with a slash")
	case prefix == Reserved || strings.HasPrefix(prefix, Reserved+"/"):
		return "", setting.Bad(field, text, "a prefix other than "+Reserved+", which has the proxy's own pages")
	}
	return prefix, nil
}

// URL returns the URL of an upstream, whose path has no slash at its end. An error names field.
func URL(field, text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, setting.Bad(field, text, "an http or https URL with a host, such as https://api.example.com")
	case u.User != nil:
		return nil, setting.Bad(field, u.Redacted(), "a URL without user and password: clients send their own")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, setting.Bad(field, text, "a URL without query and fragment")
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return u, nil
}
