package main

import (
	"context"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/state"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/internal/upstream"
	"github.com/seed-0f2c7998/perdure/retry"
)

// proxyConfig returns the configuration of the proxy. The returned function must be called when the proxy has ended.
func (a *app) proxyConfig(f *proxyFlags) (c proxy.Config, done func(), err error) {
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
	for _, s := range all {
		s.Breaker.Store, s.Breaker.Log = store, a.log
		s.Policy.Observe = retry.LogTo(a.log)
	}
	for i := range c.Upstreams {
		c.Upstreams[i].Policy, c.Upstreams[i].Breakers = &all[i].Policy, &all[i].Breaker
	}
	c.Policy, c.Breakers = &all[0].Policy, all[0].Breaker
	c.Registry, c.FullBudgets, c.SpoolTotal = new(circuit.Registry), !store.IsFleet(), int64(f.spool)<<20
	c.HeadTimeout, c.Grace, c.Hosts, c.Log = f.head, f.grace, f.hosts, a.log
	return c, store.Close, nil
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
