package redisstore

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// parseURL is rueidis.ParseURL with errors that show no password.
func parseURL(text string) (rueidis.ClientOption, error) {
	const want = "redis://, rediss:// or unix:// with host, port, database and known options"
	u, err := url.Parse(text)
	if err != nil {
		return rueidis.ClientOption{}, setting.Bad("url", text, want)
	}
	socket := u.Scheme == "unix"
	if socket && (u.Host != "" || strings.Trim(u.Path, "/") == "") { // unix://run/redis.sock would be /redis.sock
		return rueidis.ClientOption{}, setting.Bad("url", text, "the path of a socket after three slashes, as unix:///run/redis.sock")
	}
	if socket || strings.HasPrefix(u.Scheme, "redis") || strings.HasPrefix(u.Scheme, "valkey") {
		for name := range u.Query() {
			if known := queries(socket); !slices.Contains(known, name) {
				return rueidis.ClientOption{}, setting.Unknown("url option", name, known)
			}
		}
	}
	c, err := rueidis.ParseURL(withoutSlash(text, u))
	if err != nil || u.Host == "" && !socket {
		return c, setting.Bad("url", text, want)
	}
	if !socket {
		err = checkURLAddresses(text, c.InitAddress)
	}
	return c, err
}

// checkURLAddresses returns an error about the first of the URL's addresses that cannot
// be dialed.
func checkURLAddresses(text string, addresses []string) error {
	for i, address := range addresses {
		switch {
		case isHostPort(address):
		case i == 0:
			return setting.Bad("url", text, "redis://host:port with a port from 1 to 65535")
		default:
			return setting.Bad("url option", "addr", "addr=host:port, without a password: all addresses use that of the url") // the value may contain a password
		}
	}
	return nil
}

// isHostPort reports whether address can be dialed.
func isHostPort(address string) bool {
	host, port, err := net.SplitHostPort(address)
	n, wrong := strconv.ParseUint(port, 10, 16)
	return err == nil && wrong == nil && n > 0 && !strings.Contains(host, "@")
}

// withoutSlash returns text without a path that is only a slash: it means database 0, as
// no path does.
func withoutSlash(text string, u *url.URL) string {
	if u.Path != "/" {
		return text
	}
	u.Path = ""
	return u.String()
}

// queries returns the options that a URL may have. A socket has no other addresses, and
// no TLS.
func queries(socket bool) []string {
	if socket {
		return []string{"client_name", "db", "dial_timeout", "protocol", "write_timeout"}
	}
	return []string{
		"addr", "client_name", "db", "dial_timeout", "master_set", "protocol", "skip_verify", "write_timeout",
	}
}
