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

// A link calls servers with retries, each of which is a line of the step's log, and
// behind circuit breakers. All processes of this host share the breakers, also with
// the command perdure.
type link struct {
	session  *pipes.Session
	policy   retry.Policy
	before   int // how often Dagster has run the step before
	breakers circuit.Config
	registry circuit.Registry // holds the breaker of each server
	retries  atomic.Int64
}

// newLink returns a link with the policy of the environment. Each retry of the step
// and of its run before has halved the attempts.
func newLink(s *pipes.Session, lookup func(string) (string, bool)) (*link, error) {
	l := &link{session: s, breakers: circuit.Config{Observe: circuit.LogTo(s.Logger()), Store: hoststore.Open("")}}
	if err := errors.Join(l.configure(lookup), l.adapt()); err != nil {
		return nil, err
	}
	if l.policy.MaxAttempts == 0 { // not set by the user
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

// configure reads the variables of the environment that the command perdure reads.
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

// adapt reads the step's context: how often the step was run, and the extra "perdure",
// as {"max_attempts": 3, "run_retry": "1"}, which overrides the environment.
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
	if text, ok := values["run_retry"]; ok { // retries of the run; in each the step counts from 0 again
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

// client returns a client for HTTP servers.
func (l *link) client(name string) *http.Client {
	p := l.policy
	p.Name = cmp.Or(p.Name, name)
	return &http.Client{CheckRedirect: httpretry.CheckRedirect, Transport: httpretry.NewTransport(nil, httpretry.Options{
		Policy: &p, Breakers: &l.breakers, Registry: &l.registry,
	})}
}

// store returns a client for the store that the AWS environment names.
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

// recordBreakers adds a breaker that is not closed, if any, to the session's outcome,
// which then says when to retry the step.
func (l *link) recordBreakers() {
	for _, b := range l.registry.All() {
		if b.State() != circuit.Closed {
			l.session.CountRetries(b)
		}
	}
}
