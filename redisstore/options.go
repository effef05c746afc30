package redisstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/redisstore/internal/guard"
)

// Options say where a [Store] is and how it behaves. One of URL and Client
// must be set; the zero value of each other field has the meaning it states.
type Options struct {
	// URL names the server: redis://user:password@host:port/database, with
	// rediss:// for TLS (skip_verify=true to trust any certificate); valkey:// and
	// valkeys:// are the same. More addresses of a cluster or of sentinels are
	// addr=host:port, once for each, in its query, and master_set=NAME makes them
	// sentinels. One server's socket is unix://user:password@/path?db=database.
	URL string
	// Client is the same for what a URL cannot say; it is used as it is, but
	// for timeouts that are zero, and for caches and retries, which are off.
	Client *rueidis.ClientOption

	// Prefix begins the keys in the server, and the name of the channel on
	// which changes are published; "" means "circuit_breaker:". Who shares a
	// server without sharing fate takes another.
	Prefix string
	// Node is whose evidence this is: a node has one vote, however many
	// processes. "" means the host's name. It has at most 255 bytes, all printable.
	Node string
	// Quorum is how many nodes must have found a service failing before the
	// breaker opens for the whole fleet, at most as many as are alive; 0 means
	// 2, at least 1. Until then it is open on those nodes alone.
	Quorum int

	// Local is where the cells are that calls read; nil means memory of this
	// Store. With a hoststore the processes of a host agree even without the
	// server.
	Local circuit.Store
	// Sync is how often the server is read, for what no push has told; 0 means
	// 2s, at least 10ms.
	Sync time.Duration
	// Stale is after how long without an answer the process goes on alone;
	// 0 means 1.5 times Sync, which it must exceed.
	Stale time.Duration
}

// filled returns o with defaults in the place of zeros, and how to connect, or
// an error that names the field, its value and what is allowed.
func (o Options) filled() (Options, rueidis.ClientOption, error) {
	var none rueidis.ClientOption
	o.Prefix = cmp.Or(o.Prefix, "circuit_breaker:")
	o.Quorum = cmp.Or(o.Quorum, 2)
	o.Sync = cmp.Or(o.Sync, 2*time.Second)
	o.Stale = cmp.Or(o.Stale, o.Sync+o.Sync/2)
	if o.Node == "" {
		name, err := os.Hostname()
		if err != nil {
			name = "host-" + rand.Text()
		}
		o.Node = name
	}
	switch {
	case !isName(o.Node):
		return o, none, setting.Bad("node", o.Node, wantName)
	case o.Quorum < 1:
		return o, none, setting.Bad("quorum", o.Quorum, "at least 1")
	case o.Sync < 10*time.Millisecond:
		return o, none, setting.Bad("sync", o.Sync, "at least 10ms")
	case o.Stale <= o.Sync:
		return o, none, setting.Bad("stale", o.Stale, "more than sync ("+o.Sync.String()+")")
	case (o.URL == "") == (o.Client == nil):
		return o, none, setting.Bad("url", o.URL, "redis://host:port, or a client in its place")
	}
	c, err := o.connection()
	return o, c, err
}

// connection is how to connect.
func (o Options) connection() (rueidis.ClientOption, error) {
	var c rueidis.ClientOption
	if o.Client != nil {
		c = *o.Client
		c.InitAddress = slices.Clone(c.InitAddress)
	} else {
		var err error
		if c, err = parseURL(o.URL); err != nil {
			return c, err
		}
	}
	if len(c.InitAddress) == 0 {
		return c, setting.Bad("url", "no address", "redis://host:port")
	}
	c.DialCtxFn = guarded(c)
	c.DisableRetry, c.DisableCache, c.AlwaysPipelining = true, true, true
	c.PipelineMultiplex = -1 // one connection is plenty
	c.ReadBufferEachConn = cmp.Or(c.ReadBufferEachConn, 1<<14)
	c.WriteBufferEachConn = cmp.Or(c.WriteBufferEachConn, 1<<14)
	c.RingScaleEachConn = cmp.Or(c.RingScaleEachConn, 8)
	c.Dialer.Timeout = cmp.Or(c.Dialer.Timeout, o.Stale/2)
	c.Dialer.KeepAlive = cmp.Or(c.Dialer.KeepAlive, max(2*o.Sync, time.Second))
	c.ConnWriteTimeout = cmp.Or(c.ConnWriteTimeout, o.Stale/2)
	c.Sentinel.TopologyRefreshInterval = cmp.Or(c.Sentinel.TopologyRefreshInterval, 5*time.Second)
	c.Sentinel.Dialer.Timeout = cmp.Or(c.Sentinel.Dialer.Timeout, o.Stale/2)
	return c, nil
}

// guarded returns the function that dials as c says, and guards the connection.
func guarded(c rueidis.ClientOption) func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
	dial := c.DialCtxFn
	switch {
	case dial != nil:
	case c.DialFn != nil:
		dial = func(_ context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
			return c.DialFn(addr, d, t)
		}
	default:
		dial = func(ctx context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
			if t != nil {
				return (&tls.Dialer{NetDialer: d, Config: t}).DialContext(ctx, "tcp", addr)
			}
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	return func(ctx context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		conn, err := dial(ctx, addr, d, t)
		if err != nil {
			return nil, err
		}
		return guard.Conn(conn), nil
	}
}

// parseURL is rueidis.ParseURL with errors that show no password.
func parseURL(text string) (rueidis.ClientOption, error) {
	const want = "redis://, rediss:// or unix:// with host, port, database and options that exist"
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
		err = checkAddresses(text, c.InitAddress)
	}
	return c, err
}

// checkAddresses returns an error about the first of addresses, which text has, that can't be dialed.
func checkAddresses(text string, addresses []string) error {
	for i, address := range addresses {
		switch {
		case isHostPort(address):
		case i == 0:
			return setting.Bad("url", text, "redis://host:port with a port from 1 to 65535")
		default:
			return setting.Bad("url option", "addr", "addr=host:port, without a password: that of the URL is for all") // it may have one
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

// withoutSlash returns text without the slash of a path that has nothing else:
// database 0, as if there were none.
func withoutSlash(text string, u *url.URL) string {
	if u.Path != "/" {
		return text
	}
	u.Path = ""
	return u.String()
}

// queries are the options that a URL may have. Who is reached through a socket
// has no other addresses, nor TLS.
func queries(socket bool) []string {
	if socket {
		return []string{"client_name", "db", "dial_timeout", "protocol", "write_timeout"}
	}
	return []string{
		"addr", "client_name", "db", "dial_timeout", "master_set", "protocol", "skip_verify", "write_timeout",
	}
}
