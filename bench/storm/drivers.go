package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	retrygo "github.com/avast/retry-go/v5"
	"github.com/aws/aws-sdk-go-v2/aws"
	awsretry "github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go/middleware"
	"github.com/cenkalti/backoff/v7"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/hashicorp/go-retryablehttp"
	goretry "github.com/sethvargo/go-retry"
	"github.com/sony/gobreaker/v2"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/livestorm"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sim"
)

// Every library but the AWS retryer, which has its defaults, has the same policy: five attempts of up to 200 ms, and
// between them full jitter from 50 ms, doubled each time, up to 1 s. Libraries that support Retry-After wait for that instead.
const (
	attempts       = 5
	base, most     = 50 * time.Millisecond, time.Second
	attemptTimeout = 200 * time.Millisecond
)

// An operation is repeated as a policy says.
type operation func(context.Context) error

// An env is the environment of a client.
type env struct {
	attempt operation     // without a timeout of its own
	store   circuit.Store // nil: the memory of the client
}

// timed makes an attempt with the timeout.
func (e env) timed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return e.attempt(ctx)
}

// A driver is a library with a policy.
type driver struct {
	name string
	twin sim.Contender // what simulates it
	ours bool          // its clients can share a store
	new  func(env) operation
}

func driverNamed(name string) (driver, error) {
	for _, d := range drivers() {
		if d.name == name {
			return d, nil
		}
	}
	return driver{}, fmt.Errorf("unknown driver %q", name)
}

func drivers() []driver {
	gate := circuit.Config{Gate: circuit.Wait, Budget: 10}
	service, breaker := circuit.Service(), circuit.Config{}
	preset := retry.Default()
	preset.AttemptTimeout = attemptTimeout
	deaf := sim.Backoff()
	deaf.IgnoreRetryAfter = true
	backoffOnly, deafOnly := sim.Contender{Policy: sim.Backoff()}, sim.Contender{Policy: deaf}
	library := func(name string) sim.Contender { return sim.Contender{Policy: sim.NoRetries(), Library: name} }
	return []driver{
		{"none", sim.Contender{Policy: sim.NoRetries()}, false, func(e env) operation { return e.timed }},
		perdure("perdure, gate", sim.Backoff(), &gate),
		perdure("perdure, Service()", retry.Service(), &service),
		perdure("perdure, Default()", preset, &breaker),
		perdure("perdure, retry alone", sim.Backoff(), nil),
		{"failsafe-go, retry alone", deafOnly, false, failsafeAlone},
		{"failsafe-go, best mix", library("failsafe_mix"), false, failsafeMix},
		{"backoff", backoffOnly, false, backoffAlone},
		{"gobreaker in backoff", library("gobreaker"), false, sonyInBackoff},
		{"avast/retry-go", deafOnly, false, avast},
		{"sethvargo/go-retry", deafOnly, false, sethvargo},
		{"go-retryablehttp", backoffOnly, false, hashicorp},
		{"AWS retryer", library("aws_standard"), false, awsStandard},
	}
}

// perdure is this library. In the simulation the same policy and breaker decide.
func perdure(name string, p retry.Policy, c *circuit.Config) driver {
	return driver{name, sim.Contender{Policy: p, Breaker: c}, c != nil, func(e env) operation {
		policy := p
		if c != nil {
			config := *c
			config.Store = e.store
			policy.Breaker = circuit.New("storm", config)
		}
		return func(ctx context.Context) error { return retry.Do(ctx, &policy, e.attempt) }
	}}
}

// jitter returns the delay before the retry of that number, from 1.
func jitter(retry int) time.Duration {
	return rand.N(min(base<<min(retry-1, 10), most) + 1)
}

// failsafe-go. Its delay function does not see the number of the attempt before the first retry.

func failsafeRetry() retrypolicy.Builder[any] {
	return retrypolicy.NewBuilder[any]().WithMaxAttempts(attempts).
		WithDelayFunc(func(e failsafe.ExecutionAttempt[any]) time.Duration { return jitter(max(e.Attempts(), 1)) })
}

func failsafeDo(e env, policies ...failsafe.Policy[any]) operation {
	executor := failsafe.With(policies...)
	return func(ctx context.Context) error {
		return executor.WithContext(ctx).Run(func() error { return e.timed(ctx) })
	}
}

func failsafeAlone(e env) operation { return failsafeDo(e, failsafeRetry().Build()) }

// failsafeMix is the best combination for these storms: a breaker for a rate of failures that is open for a short time, and
// the budget.
func failsafeMix(e env) operation {
	breaker := circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(0.5, 10, time.Second).
		WithDelay(500 * time.Millisecond).WithSuccessThreshold(3).Build()
	return failsafeDo(e, failsafeRetry().WithBudget(budget.New()).Build(), breaker)
}

// cenkalti/backoff. Full jitter is a custom BackOff.

type fullJitter struct{ retry int }

func (j *fullJitter) Reset() { j.retry = 0 }

func (j *fullJitter) NextBackOff() time.Duration { j.retry++; return jitter(j.retry) }

func backoffDo(ctx context.Context, attempt backoff.Operation[struct{}]) error {
	_, err := backoff.Retry(ctx, attempt, backoff.WithBackOff(&fullJitter{}), backoff.WithMaxTries(attempts))
	return err
}

func backoffAlone(e env) operation {
	return func(ctx context.Context) error {
		return backoffDo(ctx, func() (struct{}, error) {
			err := e.timed(ctx)
			if s, ok := errors.AsType[livestorm.StatusError](err); ok && s.After > 0 {
				err = backoff.RetryAfter(s.After, err)
			}
			return struct{}{}, err
		})
	}
}

// sonyInBackoff has gobreaker's default rule, and is open for 1 s, not 60. An open breaker is retried, too.
func sonyInBackoff(e env) operation {
	breaker := gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{Timeout: time.Second})
	return func(ctx context.Context) error {
		return backoffDo(ctx, func() (struct{}, error) {
			return breaker.Execute(func() (struct{}, error) { return struct{}{}, e.timed(ctx) })
		})
	}
}

// avast counts from 1: before the first retry it waits at most twice its Delay.
func avast(e env) operation {
	return func(ctx context.Context) error {
		return retrygo.New(retrygo.Attempts(attempts), retrygo.Delay(base/2), retrygo.MaxDelay(most),
			retrygo.DelayType(retrygo.FullJitterBackoffDelay), retrygo.LastErrorOnly(true), retrygo.Context(ctx),
		).Do(func() error { return e.timed(ctx) })
	}
}

func sethvargo(e env) operation {
	return func(ctx context.Context) error {
		retries := 0
		delays := goretry.BackoffFunc(func() (time.Duration, bool) { retries++; return jitter(retries), false })
		return goretry.Do(ctx, goretry.WithMaxRetries(attempts-1, delays), func(ctx context.Context) error {
			return goretry.RetryableError(e.timed(ctx))
		})
	}
}

// hashicorp/go-retryablehttp, with a RoundTripper instead of HTTP.

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// respond turns the end of an attempt into a response to r.
func respond(r *http.Request, err error) (*http.Response, error) {
	s := livestorm.StatusError{Status: 200}
	if err != nil && !errors.As(err, &s) {
		return nil, err
	}
	header := http.Header{}
	if s.After > 0 {
		header.Set("Retry-After", strconv.Itoa(int(s.After.Seconds())))
	}
	return &http.Response{StatusCode: s.Status, Header: header, Body: http.NoBody, Request: r}, nil
}

func hashicorp(e env) operation {
	c := retryablehttp.NewClient()
	c.Logger, c.RetryMax, c.RetryWaitMin, c.RetryWaitMax = nil, attempts-1, base, most
	c.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		return respond(r, e.timed(r.Context()))
	})}
	c.Backoff = func(least, most time.Duration, retries int, r *http.Response) time.Duration {
		if r != nil && r.Header.Get("Retry-After") != "" {
			return retryablehttp.DefaultBackoff(least, most, retries, r)
		}
		return jitter(retries + 1)
	}
	return func(ctx context.Context) error {
		r, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, "http://storm", nil)
		if err != nil {
			return err
		}
		response, err := c.Do(r)
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
}

// awsStandard is the loop of the AWS SDK with its standard retryer: three attempts, delays of up to 20 s, and a quota for each
// client. It ignores Retry-After, and retries all errors here.
func awsStandard(e env) operation {
	loop := awsretry.NewAttemptMiddleware(awsretry.NewStandard(func(o *awsretry.StandardOptions) {
		o.Retryables = []awsretry.IsErrorRetryable{awsretry.IsErrorRetryableFunc(func(error) aws.Ternary { return aws.TrueTernary })}
	}), func(r any) any { return r })
	return func(ctx context.Context) error {
		_, _, err := loop.HandleFinalize(ctx, middleware.FinalizeInput{}, sends(e.timed))
		return err
	}
}

// sends makes an attempt as the SDK's loop calls it.
type sends operation

func (s sends) HandleFinalize(ctx context.Context, _ middleware.FinalizeInput) (out middleware.FinalizeOutput, m middleware.Metadata, err error) {
	return out, m, s(ctx)
}
