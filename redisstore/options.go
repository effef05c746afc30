package redisstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/redisstore/internal/guard"
)

// Options configure a [Store]. One of URL and Addresses is required; the zero value of
// each other field is its default. Printed or logged, Options show no password.
type Options struct {
	// URL names the server: redis://user:password@host:port/database, with
	// rediss:// for TLS (skip_verify=true to trust any certificate); valkey:// and
	// valkeys:// are the same. More addresses of a cluster or of sentinels are
	// addr=host:port, once for each, in its query, and master_set=NAME makes them
	// sentinels. One server's socket is unix://user:password@/path?db=database.
	URL string
	// Addresses names the server in place of URL: host:port of one server, or of some
	// nodes of a cluster or some sentinels. The fields from Username to
	// SentinelPassword are allowed with Addresses only, since a URL contains them.
	Addresses []string
	// Username and Password authenticate to the server. "" means the default user,
	// and no authentication.
	Username, Password string
	// DB is the number of the server's database, at least 0; a cluster has only 0.
	DB int
	// MasterSet is the sentinels' name for the server; then Addresses are those of
	// the sentinels. "" means no sentinels.
	MasterSet string
	// SentinelUsername and SentinelPassword authenticate to the sentinels. "" means
	// the default user, and no authentication.
	SentinelUsername, SentinelPassword string
	// TLS configures TLS for all connections, those to sentinels included. It is
	// allowed with a URL too, except that of a socket, and must not be modified
	// after Open. If nil, rediss:// uses TLS with the system's roots, and all other
	// connections use no TLS.
	TLS *tls.Config

	// Prefix is the beginning of all keys in the server, and of the name of the
	// channel on which changes are published. "" means "circuit_breaker:". Fleets that
	// use one server and share no breakers need different prefixes.
	Prefix string
	// Node identifies this host: a node has one vote, however many processes it
	// runs. "" means the host's name. At most 255 bytes, all printable.
	Node string
	// Quorum is how many nodes must open a breaker before it opens for the whole
	// fleet; if fewer nodes are alive, all of them must. Until then the breaker is
	// open on those nodes only. 0 means 2, at least 1.
	Quorum int

	// Local holds the cells that calls read. If nil, they are in memory of this
	// Store. With a hoststore, the processes of a host share breakers even if the
	// server is unreachable.
	Local circuit.Store
	// Sync is the time between two reads of the server, which find changes whose
	// message was lost. 0 means 2s, at least 10ms.
	Sync time.Duration
	// Stale is the time without a response after which the process decides alone. 0
	// means 1.5 times Sync; must be more than Sync.
	Stale time.Duration

	// Log receives the warnings of the Store. If nil, Log is slog.Default() at the time of
	// Open.
	Log *slog.Logger
}

// filled returns o with defaults in place of zeros, and the options of the client. An
// error names the field, its value and what is allowed.
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
	case o.URL == "" && len(o.Addresses) == 0:
		return o, none, setting.Bad("url", o.URL, "redis://host:port, unless there are addresses")
	}
	c, err := o.connection()
	return o, c, err
}

// connection returns the options of the client.
func (o Options) connection() (rueidis.ClientOption, error) {
	c, err := o.server()
	if err != nil {
		return c, err
	}
	c.DialCtxFn = guarded(c.DialCtxFn)
	c.DisableRetry, c.DisableCache, c.AlwaysPipelining = true, true, true
	c.PipelineMultiplex = -1 // one connection is enough
	c.ReadBufferEachConn, c.WriteBufferEachConn, c.RingScaleEachConn = 1<<14, 1<<14, 8
	c.Dialer.Timeout = cmp.Or(c.Dialer.Timeout, o.Stale/2)
	c.Dialer.KeepAlive = max(2*o.Sync, time.Second)
	c.ConnWriteTimeout = cmp.Or(c.ConnWriteTimeout, o.Stale/2)
	c.Sentinel.TopologyRefreshInterval = 5 * time.Second
	c.Sentinel.Dialer.Timeout = o.Stale / 2
	return c, nil
}

// server returns the options of the client that say where the server is, and the
// credentials.
func (o Options) server() (rueidis.ClientOption, error) {
	if o.URL == "" {
		c := rueidis.ClientOption{
			InitAddress: slices.Clone(o.Addresses), TLSConfig: o.TLS,
			Username: o.Username, Password: o.Password, SelectDB: o.DB,
			Sentinel: rueidis.SentinelOption{
				MasterSet: o.MasterSet, Username: o.SentinelUsername, Password: o.SentinelPassword, TLSConfig: o.TLS,
			},
		}
		return c, o.checkAddresses()
	}
	for _, f := range []struct {
		field string
		set   bool
	}{
		{"addresses", len(o.Addresses) > 0},
		{"username", o.Username != ""},
		{"password", o.Password != ""},
		{"db", o.DB != 0},
		{"master_set", o.MasterSet != ""},
		{"sentinel_username", o.SentinelUsername != ""},
		{"sentinel_password", o.SentinelPassword != ""},
	} {
		if f.set {
			return rueidis.ClientOption{}, setting.Bad(f.field, "set", "absent with a url, which contains it")
		}
	}
	c, err := parseURL(o.URL)
	if err == nil && o.TLS != nil {
		if c.DialCtxFn != nil {
			return c, setting.Bad("tls", "set", "absent with the url of a socket")
		}
		c.TLSConfig, c.Sentinel.TLSConfig = o.TLS, o.TLS
	}
	return c, err
}

// checkAddresses returns an error if a field that replaces a URL is invalid.
func (o Options) checkAddresses() error {
	for _, address := range o.Addresses {
		if !isHostPort(address) {
			return setting.Bad("addresses", redacted(address), "host:port each, with a port from 1 to 65535")
		}
	}
	switch {
	case o.DB < 0:
		return setting.Bad("db", o.DB, "at least 0")
	case o.Username != "" && o.Password == "":
		return setting.Bad("username", o.Username, "used with a password")
	case o.MasterSet == "" && (o.SentinelUsername != "" || o.SentinelPassword != ""):
		return setting.Bad("sentinel_username", o.SentinelUsername, "used with a master_set")
	}
	return nil
}

// redacted returns address without the part that may be a password.
func redacted(address string) string {
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		return redact.Mark + address[i:]
	}
	return address
}

// summary returns the address of the server, the prefix and the node, and no password.
func (o Options) summary() string {
	where := o.URL
	if o.URL == "" {
		hosts := make([]string, len(o.Addresses))
		for i, address := range o.Addresses {
			hosts[i] = redacted(address)
		}
		where = strings.Join(hosts, ", ")
	}
	return redact.String("redisstore.Options(" + where + ", prefix " + strconv.Quote(o.Prefix) + ", node " + strconv.Quote(o.Node) + ")")
}

// Format prints the address of the server, the prefix and the node for every verb, and
// no password.
func (o Options) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, o.summary()) }

// LogValue returns what Format prints, for package log/slog.
func (o Options) LogValue() slog.Value { return slog.StringValue(o.summary()) }

// A dialFunc makes a connection for rueidis.
type dialFunc = func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error)

// guarded returns a function that guards the connections that dial makes. If dial is
// nil, they are TCP connections.
func guarded(dial dialFunc) dialFunc {
	if dial == nil {
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
