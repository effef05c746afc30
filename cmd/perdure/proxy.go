package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/help"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
	"github.com/seed-0f2c7998/perdure/internal/upstream"
)

// proxyText is the help of proxy.
const proxyText = `Serve HTTP on this host, and send each request to an upstream server with retries: for programs in any
language, unchanged but for the URL that they are given.

GET, HEAD, OPTIONS, PUT and DELETE are repeated when they fail, and so is any request with an
Idempotency-Key. A POST or PATCH without one is not repeated, unless it surely never left. A response
body that breaks is resumed where it broke. A body whose digest does not match, or that cannot be
resumed, reaches the client as an incomplete response, never as a complete one.

Several upstreams have a path prefix each, --to /weather=URL, or an address each, --to 127.0.0.1:9001=URL, and may have a
policy each: --to /weather=URL,policy=fetch. Without --to they are those of the section proxy of the policy file. --listen is
the address of those with a prefix.

The preset is service. Each upstream has a circuit breaker and a retry budget, which all commands of this user share: see perdure
status. A request gets 503 with Retry-After if the breaker is open, a limit is reached or the budget is spent, and 502 if all
attempts failed without a response. --rate limits the requests to each upstream, those of other commands included.
--head-timeout limits the time to the head of a response, with all attempts and waits; it should be below the timeout of
the clients. Set the clients' own retries to one attempt: else attempts multiply.

With --s3 the upstream is an S3-compatible store, by default that of the AWS environment. The proxy signs each
attempt with the credentials of that environment. Clients sign with a key of the proxy, which it prints when
it starts, or keeps in --client-key-file. Clients on a Unix socket need no key, unless that file is given.

The address must be loopback, unless --allow-remote is given, or a Unix socket, which only this user can
connect to. Requests for another Host and those of web pages are refused. The paths /.perdure/healthz and
/.perdure/metrics are the proxy's own.

On SIGTERM it accepts no more connections, and ends when its requests and upgraded connections have, or
after --grace.`

// proxyFlags are the flags of proxy besides those of every policy.
type proxyFlags struct {
	policy *policy.Flags
	listen string
	to     []string
	hosts  []string
	remote bool
	head   time.Duration
	spool  int // MiB
	grace  time.Duration
	s3     bool
	key    string // the file of the clients' key
}

func (a *app) proxyCommand() *cobra.Command {
	var f proxyFlags
	c := &cobra.Command{
		Use:   "proxy [flags] --to URL",
		Short: "Retry the requests of programs in any language",
		Long:  proxyText,
		Example: `  perdure proxy --listen 127.0.0.1:9000 --to https://api.example.com --rate 60/m
  curl http://127.0.0.1:9000/v1/stations

  perdure proxy --listen unix:$XDG_RUNTIME_DIR/perdure.sock --to /bikes=https://bikes.example.com/v1 --to /weather=https://weather.example.com

  perdure proxy --s3 --client-key-file ~/.perdure-client-key
  AWS_SHARED_CREDENTIALS_FILE=~/.perdure-client-key aws --endpoint-url http://127.0.0.1:9000 s3 ls`,
		DisableFlagsInUseLine: true,
		Args:                  help.Exactly(0, "none"),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.proxy(c.Context(), &f)
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:9000", "`address` to listen on: HOST:PORT or unix:PATH")
	flags.StringArrayVar(&f.to, "to", nil, "upstream `URL`, /PREFIX=URL for the paths below PREFIX, or ADDRESS=URL for an address of its own, with ,policy=NAME for a policy of its own; may be repeated")
	flags.StringArrayVar(&f.hosts, "host", nil, "another `name` that clients may send as Host; may be repeated")
	flags.BoolVar(&f.remote, "allow-remote", false, "allow an address other than loopback: all hosts that reach it can use the proxy")
	f.head, f.grace = proxy.DefaultHeadTimeout, 30*time.Second
	flags.Var(policy.Wait(&f.head), "head-timeout", "`seconds` to the head of a response, with all attempts and waits")
	f.spool = proxy.DefaultSpoolTotal >> 20
	flags.Var(policy.Whole(&f.spool, 1, 1<<20), "spool", "`n` MiB of request bodies that are kept together, to be sent again; at most 256 of one request")
	flags.Var(policy.Wait(&f.grace), "grace", "`seconds` that requests and upgraded connections may last after SIGTERM")
	flags.BoolVar(&f.s3, "s3", false, "serve an S3-compatible store: sign with the credentials of the AWS environment")
	flags.StringVar(&f.key, "client-key-file", "", "`file` with the key that clients sign with, made if it does not exist (with --s3)")
	f.policy = policy.Add(flags)
	return c
}

// proxy serves until a signal comes.
func (a *app) proxy(ctx context.Context, f *proxyFlags) error {
	if err := f.checkS3(); err != nil {
		return err
	}
	for _, name := range f.hosts {
		if err := upstream.Name("--host", name); err != nil {
			return err
		}
	}
	config, done, err := a.proxyConfig(f)
	defer done()
	if err != nil {
		return err
	}
	ctx, stop := exit.OnSignal(ctx)
	defer stop()
	listeners, err := f.open(ctx, config.Upstreams)
	for _, l := range listeners {
		defer l.Close()
	}
	if err != nil {
		return err
	}
	first := listeners[0].Addr()
	if f.s3 {
		if err := a.serveS3(ctx, f, &config, first); err != nil {
			return err
		}
	}
	for _, u := range config.Upstreams {
		address := cmp.Or(u.At, first).String()
		by, attrs := "", []any{"event", "serving", "address", address, "prefix", u.Prefix, "upstream", u.URL.String()}
		if u.Named != "" {
			by, attrs = ", policy "+u.Named, append(attrs, "policy", u.Named)
		}
		a.log.Info(fmt.Sprintf("Serving %s%s/ for %s%s", address, u.Prefix, u.URL, by), attrs...)
	}
	return proxy.New(config, first).Serve(ctx, listeners...)
}
