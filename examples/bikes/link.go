package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/pipes"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A link is how the program reaches what is outside: by retries, each of which
// is a line of the step's log, and behind circuit breakers that are shared with
// all processes of this host, the command perdure included.
type link struct {
	session  *pipes.Session
	policy   retry.Policy
	before   int // how often Dagster has started it for the same
	breakers circuit.Config
	registry circuit.Registry // holds the breaker of each server
	retries  atomic.Int64
}

// newLink returns a link whose policy is that of the environment, less what the
// step and its run have been tried before.
func newLink(s *pipes.Session, lookup func(string) (string, bool)) (*link, error) {
	l := &link{session: s, breakers: circuit.Config{Observe: circuit.LogTo(s.Logger()), Store: hoststore.Open("")}}
	if err := errors.Join(l.configure(lookup), l.adapt()); err != nil {
		return nil, err
	}
	if l.policy.MaxAttempts == 0 { // it is not set
		l.policy = l.policy.ForRerun(l.before)
	}
	observe := s.Observe(nil)
	l.policy.Observe = func(ctx context.Context, e retry.Event) {
		if e.Kind == retry.Retrying {
			l.retries.Add(1)
		}
		observe(ctx, e)
	}
	return l, l.policy.Validate()
}

// configure reads the environment, by the variables that the command perdure
// reads as well.
func (l *link) configure(lookup func(string) (string, bool)) error {
	read := func(parameter string, set func(name, text string) error) error {
		text, ok := lookup("PERDURE_" + strings.ToUpper(strings.TrimSuffix(parameter, "_seconds")))
		if !ok {
			return nil
		}
		return set(parameter, text)
	}
	var wrong []error
	for _, p := range retry.Parameters() {
		wrong = append(wrong, read(p.Name, l.policy.Set))
	}
	for _, p := range circuit.Parameters() {
		wrong = append(wrong, read(p.Name, l.breakers.Set))
	}
	return errors.Join(wrong...)
}

// adapt reads what Dagster says: how often the step was tried, and the extra
// "perdure", as {"max_attempts": 3, "run_retry": "1"}, whose parameters win over
// those of the environment.
func (l *link) adapt() error {
	l.before = l.session.Context.RetryNumber
	values := map[string]json.RawMessage{}
	if _, ok := l.session.Context.Extras["perdure"]; !ok {
		return nil
	}
	if err := l.session.Context.Extra("perdure", &values); err != nil {
		return err
	}
	maps.DeleteFunc(values, func(_ string, v json.RawMessage) bool { return string(v) == "null" })
	if text, ok := values["run_retry"]; ok { // of the run, in which the step counts from 0 again
		n, err := strconv.Atoi(strings.Trim(string(text), `"`))
		if err != nil || n < 0 {
			return fmt.Errorf("invalid value %s for extras.perdure.run_retry: must be the number of a retry", text)
		}
		l.before += n
		delete(values, "run_retry")
	}
	text, err := json.Marshal(values)
	return errors.Join(err, json.Unmarshal(text, &l.policy))
}

// client returns the way to HTTP servers.
func (l *link) client(name string) *http.Client {
	p := l.policy
	p.Name = cmp.Or(p.Name, name)
	return &http.Client{CheckRedirect: httpretry.CheckRedirect, Transport: httpretry.NewTransport(nil, httpretry.Options{
		Policy: &p, Breakers: &l.breakers, Registry: &l.registry,
	})}
}

// store returns the way to the store that the AWS environment names.
func (l *link) store(ctx context.Context, name string) (*objects.Store, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithLogger(logging.Nop{}))
	if err != nil {
		return nil, retry.Permanent(err)
	}
	cfg.Region = cmp.Or(cfg.Region, "us-east-1")
	p := l.policy
	p.Name = cmp.Or(p.Name, name)
	return objects.New(cfg, objects.Options{Policy: &p, Breakers: &l.breakers, Registry: &l.registry})
}

// tell adds to the session's outcome the breaker that is not closed, if any, by
// which Dagster learns when to come back.
func (l *link) tell() {
	for _, b := range l.registry.All() {
		if b.State() != circuit.Closed {
			l.session.CountRetries(b)
		}
	}
}
