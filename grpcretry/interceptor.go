package grpcretry

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// DialOptions returns New(o).DialOptions(). Clients that share breakers need the same
// Registry in their Options, or the options of one [Interceptor].
func DialOptions(o Options) []grpc.DialOption { return New(o).DialOptions() }

// An Interceptor retries calls. Make one with [New]. It is safe for concurrent use, and
// several connections may use it.
type Interceptor struct {
	options  Options
	invalid  error // why the options are not valid; nil if they are
	registry *circuit.Registry

	mu     sync.RWMutex
	routes map[routeKey]*route // guarded by mu
}

type routeKey struct{ target, method string }

// A route is what the calls of one method of a target share.
type route struct {
	policy retry.Policy // with the breaker of the key
	once   bool
	hedge  *Hedge
}

// New returns an Interceptor. If the options are not valid, each call returns the error
// of [Options.Validate].
func New(o Options) *Interceptor {
	i := &Interceptor{options: o, invalid: o.Validate(), registry: o.Registry, routes: make(map[routeKey]*route)}
	if i.registry == nil {
		i.registry = new(circuit.Registry)
	}
	return i
}

// DialOptions returns the options of a client that retries: both interceptors, the
// Counter, and [grpc.WithDisableRetry], which ignores the retryPolicy of every service
// config; the other fields of service configs still apply. Interceptors that later
// options add run once for each attempt; those of earlier options run once for each
// call.
func (i *Interceptor) DialOptions() []grpc.DialOption {
	options := []grpc.DialOption{
		grpc.WithDisableRetry(),
		grpc.WithChainUnaryInterceptor(i.Unary),
		grpc.WithChainStreamInterceptor(i.Stream),
	}
	if i.options.Counter != nil {
		options = append(options, grpc.WithStatsHandler(i.options.Counter))
	}
	return options
}

// Unary is a [grpc.UnaryClientInterceptor]. Without [grpc.WithDisableRetry], its attempts
// multiply with those of a service config: prefer [Interceptor.DialOptions], or look at
// Inner of a [Counter]. The context limits the operation: all attempts and all waits.
func (i *Interceptor) Unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
	invoker grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	r, err := i.routeOf(cc.Target(), method)
	if err != nil {
		return err
	}
	op := operation{route: r, policy: r.policy, counter: i.options.Counter}
	send := func(ctx context.Context, reply any, to *result) error {
		return invoker(ctx, method, req, reply, cc, to.options(opts)...)
	}
	err = retry.Do(ctx, &op.policy, func(attempt context.Context) error {
		op.begin()
		if r.hedge != nil {
			return op.hedged(ctx, attempt, reply, send)
		}
		var got result
		if err := send(op.context(attempt, op.attempts), reply, &got); err != nil {
			return op.failed(ctx, attempt, err, &got)
		}
		return nil
	})
	return public(ctx, err)
}

// A result is what an attempt has received besides its message.
type result struct {
	trailer metadata.MD
	peer    peer.Peer // without an address if the call never reached a connection
	cut     bool      // the stream ended while the request was being sent; then the others are not known
}

// options returns opts with those that fill r.
func (r *result) options(opts []grpc.CallOption) []grpc.CallOption {
	own := make([]grpc.CallOption, 0, len(opts)+2)
	return append(append(own, opts...), grpc.Trailer(&r.trailer), grpc.Peer(&r.peer))
}

// maxRoutes is the maximum number of routes; above it all are dropped. The registry still has their breakers.
const maxRoutes = 1000

// routeOf returns the route of a method, which is made at its first call.
func (i *Interceptor) routeOf(target, method string) (*route, error) {
	k := routeKey{target, method}
	i.mu.RLock()
	r := i.routes[k]
	i.mu.RUnlock()
	if r != nil {
		return r, nil
	}
	if i.invalid != nil {
		return nil, i.invalid
	}
	r, err := i.newRoute(k)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if known := i.routes[k]; known != nil {
		return known, nil // another goroutine was faster
	}
	if len(i.routes) >= maxRoutes {
		clear(i.routes)
	}
	i.routes[k] = r
	return r, nil
}

func (i *Interceptor) newRoute(k routeKey) (*route, error) {
	m := i.method(k.method)
	r := &route{once: m.Once, hedge: m.Hedge}
	if p := cmp.Or(m.Policy, i.options.Policy); p != nil {
		r.policy = *p
	}
	r.policy.Name = cmp.Or(r.policy.Name, strings.TrimPrefix(k.method, "/"))
	r.policy.Classify = classifier(r.policy.Classify)
	if i.options.Breakers != nil {
		key := k.target
		if i.options.Key != nil {
			key = i.options.Key(k.target, k.method)
		}
		b, err := i.registry.Get("grpc:"+key, *i.options.Breakers)
		if err != nil {
			return nil, fmt.Errorf("grpcretry: breaker of %s: %w", key, err)
		}
		r.policy.Breaker = b
	}
	return r, nil
}

// method returns the entry of Options.Methods for a method.
func (i *Interceptor) method(name string) Method {
	service := name[:strings.LastIndexByte(name, '/')+1]
	for _, key := range [...]string{name, service, ""} {
		if m, ok := i.options.Methods[key]; ok {
			return m
		}
	}
	return Method{}
}

// isMethodKey reports whether key is one of Options.Methods.
func isMethodKey(key string) bool {
	if key == "" {
		return true
	}
	service, _, found := strings.Cut(strings.TrimPrefix(key, "/"), "/")
	return found && service != "" && key[0] == '/' && strings.Count(key, "/") == 2 && !strings.Contains(key, "*")
}
