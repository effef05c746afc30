package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/spf13/cobra"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/awsenv"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/help"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy/s3"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/state"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/internal/upstream"
	"github.com/seed-0f2c7998/perdure/retry"
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
	a.addOnOpen(flags)
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
	config, done, err := a.proxyConfig(ctx, f)
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

// proxyConfig returns the configuration of the proxy. The returned function must be called when the proxy has ended.
func (a *app) proxyConfig(ctx context.Context, f *proxyFlags) (c proxy.Config, done func(), err error) {
	done = func() {}
	if c.Upstreams, err = a.upstreams(f); err != nil {
		return c, done, err
	}
	if len(c.Upstreams) == 0 && !f.s3 {
		return c, done, setting.Bad("--to", strings.Join(f.to, ","), "given: the URL of an upstream, unless the policy file has a section proxy")
	}
	all, err := a.proxySettings(f, c.Upstreams)
	if err != nil {
		return c, done, err
	}
	store, err := state.Open(all[0].Store, a.log) // which is the same for all
	if err != nil {
		return c, done, all[0].AtSource(err)
	}
	hook, err := a.hook(ctx, a.log)
	if err != nil {
		return c, store.Close, err
	}
	for _, s := range all {
		s.Breaker.Store, s.Breaker.Log = store, a.log
		hook.Watch(&s.Breaker)
		s.Policy.Observe = retry.LogTo(a.log)
	}
	for i := range c.Upstreams {
		c.Upstreams[i].Policy, c.Upstreams[i].Breakers = &all[i].Policy, &all[i].Breaker
	}
	c.Policy, c.Breakers = &all[0].Policy, all[0].Breaker
	c.Registry, c.FullBudgets, c.SpoolTotal = new(circuit.Registry), !store.IsFleet(), int64(f.spool)<<20
	c.HeadTimeout, c.Grace, c.Hosts, c.Log = f.head, f.grace, f.hosts, a.log
	return c, func() { hook.Close(); store.Close() }, nil
}

// open opens --listen, unless each upstream has an address of its own, and those addresses.
func (f *proxyFlags) open(ctx context.Context, upstreams []proxy.Upstream) (all []net.Listener, err error) {
	add := func(field, address string) (net.Addr, error) {
		l, err := proxy.Listen(ctx, field, address, f.remote)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
		return l.Addr(), nil
	}
	if f.s3 || slices.ContainsFunc(upstreams, func(u proxy.Upstream) bool { return u.Listen == "" }) {
		if _, err := add("--listen", f.listen); err != nil {
			return all, err
		}
	}
	for i := range upstreams {
		u := &upstreams[i]
		if u.Listen == "" {
			continue
		}
		if u.At, err = add(u.Source, u.Listen); err != nil {
			return all, err
		}
	}
	return all, nil
}

// upstreams returns those of --to, or else those of the policy file.
func (a *app) upstreams(f *proxyFlags) (all []proxy.Upstream, err error) {
	if len(f.to) > 0 && !f.s3 {
		return proxy.ParseUpstreams("--to", f.to)
	}
	file, err := f.policy.Policies(a.environ)
	if err != nil {
		return nil, exit.UsageError(err)
	}
	if f.s3 {
		if file != nil && len(file.Upstreams()) > 0 {
			a.log.Warn("The section proxy of the policy file has no effect with --s3", "event", "warning")
		}
		return proxy.ParseUpstreams("--to", f.to)
	}
	if file == nil {
		return nil, nil
	}
	for _, row := range file.Upstreams() {
		u := proxy.Upstream{Prefix: row.Prefix, Listen: row.Listen, Source: row.Source, Named: row.Policy}
		if u.URL, err = upstream.URL(row.Source, row.URL); err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// proxySettings returns the settings of each upstream, and at least one.
func (a *app) proxySettings(f *proxyFlags, upstreams []proxy.Upstream) ([]*policy.Settings, error) {
	if len(upstreams) == 0 { // that of --s3, which serveS3 finds
		upstreams = []proxy.Upstream{{URL: new(url.URL)}}
	}
	all := make([]*policy.Settings, len(upstreams))
	for i := range upstreams {
		u := &upstreams[i]
		f.policy.ChooseFrom("--to", u.Named)
		source, warnings, err := f.policy.Load(a.environ)
		if err == nil {
			all[i], err = source.Settings("service")
		}
		if err != nil {
			return nil, exit.UsageError(err)
		}
		for _, w := range warnings {
			if i == 0 { // they are the same for all
				a.log.Warn(w, "event", "warning")
			}
		}
		u.Breakers = &all[i].Breaker
	}
	return all, proxy.CheckBreakers(upstreams)
}

// checkS3 returns the error of flags that do not fit --s3.
func (f *proxyFlags) checkS3() error {
	switch {
	case !f.s3 && f.key != "":
		return setting.Bad("--client-key-file", f.key, "given with --s3 only")
	case f.s3 && len(f.to) == 1 && strings.Contains(f.to[0], ",policy="):
		return setting.Bad("--to", f.to[0], "a URL alone: with --s3, --policy chooses the policy")
	case f.s3 && len(f.to) == 1:
		all, err := proxy.ParseUpstreams("--to", f.to)
		if err == nil && all[0].Prefix+all[0].Listen != "" {
			err = setting.Bad("--to", f.to[0], "a URL alone: clients of --s3 sign the path, and --listen has their address")
		}
		return err
	case f.s3 && len(f.to) > 1:
		return setting.Bad("--to", strings.Join(f.to, ","), "one URL")
	}
	return nil
}

// serveS3 makes the proxy of c speak S3, and prints the key for its clients if no file has it.
func (a *app) serveS3(ctx context.Context, f *proxyFlags, c *proxy.Config, address net.Addr) error {
	to := ""
	if len(f.to) > 0 {
		to = f.to[0]
	}
	cfg, err := awsenv.Config(ctx, to, "", false)
	if err != nil {
		return err
	}
	if c.Upstreams, err = upstreamS3(ctx, cfg, to); err != nil {
		return err
	}
	var key s3.Key
	switch {
	case f.key != "":
		if key, err = s3.LoadKey("--client-key-file", f.key); err != nil {
			return err
		}
	case address.Network() != "unix":
		key = s3.NewKey()
		fmt.Fprintf(a.stdout, "export AWS_ENDPOINT_URL=http://%s\nexport AWS_ACCESS_KEY_ID=%s\nexport AWS_SECRET_ACCESS_KEY=%s\n", address, key.ID, key.Secret)
	}
	s3.Apply(c, s3.Config{Region: cfg.Region, Credentials: cfg.Credentials, Key: key, Policy: c.Policy})
	return nil
}

// upstreamS3 returns the store of cfg as the upstream; to, if not empty, is its URL.
func upstreamS3(ctx context.Context, cfg aws.Config, to string) ([]proxy.Upstream, error) {
	field := "--to"
	if to == "" {
		field = awsenv.Source
		o := awss3.NewFromConfig(cfg).Options()
		params := awss3.EndpointParameters{
			Region: &cfg.Region, Endpoint: o.BaseEndpoint, ForcePathStyle: aws.Bool(true),
			UseFIPS:      aws.Bool(o.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled),
			UseDualStack: aws.Bool(o.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled),
		}
		found, err := awss3.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, params)
		if err != nil {
			return nil, setting.Bad("the region", cfg.Region, "one that S3 knows")
		}
		to = found.URI.String()
	}
	return proxy.ParseUpstreams(field, []string{to})
}
