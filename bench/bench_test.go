package main

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/hoststore"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.benchtime", "1x"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// TestCells runs each cell three times, and checks how often the operation ran: a peer that is set up wrongly would
// be measured doing something else.
func TestCells(t *testing.T) {
	server := newServer()
	defer server.Close()
	store := hoststore.Open(filepath.Join(t.TempDir(), "cells"))
	defer store.Close()
	calls, err := newGRPCServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer calls.close()
	for _, s := range slices.Concat(scenarios(store), httpScenarios(server), grpcScenarios(calls)) {
		if _, ok := s.cells[bareCall]; !ok {
			t.Errorf("%s: no bare call to compare with", s.name)
		}
		for name, set := range s.cells {
			t.Run(s.name+"/"+string(name), func(t *testing.T) {
				operation, runs := s.operation(), 0
				c := set(func(ctx context.Context) error {
					runs++
					if ctx == nil || ctx.Done() == nil {
						t.Error("the operation did not get the caller's context")
					}
					return operation(ctx)
				})
				for range 3 {
					if err := c(t.Context()); (err != nil) != s.refused {
						t.Errorf("call returned %v; refused is to be %v", err, s.refused)
					}
				}
				if runs != 3*s.attempts {
					t.Errorf("3 calls ran the operation %d times, want %d", runs, 3*s.attempts)
				}
			})
		}
	}
}

// TestRun makes the whole table in one round of a single call a cell.
func TestRun(t *testing.T) {
	var table strings.Builder
	if err := run(&table, 1, 1, ""); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"perdure", "failsafe-go v0", "retry + breaker + budget", "±"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
}

func TestRunRefuses(t *testing.T) {
	for _, c := range []struct {
		rounds int
		only   string
		want   string
	}{
		{0, "", "-rounds 0"},
		{1, "(", "-only"},
	} {
		err := run(&strings.Builder{}, c.rounds, 1, c.only)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("run with %d rounds of rows %q: %v, want an error with %q", c.rounds, c.only, err, c.want)
		}
	}
}

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{[]float64{7}, 0.5, 7},
		{[]float64{1, 3}, 0.5, 2},
		{[]float64{1, 2, 4}, 0.5, 2},
		{[]float64{1, 2, 4}, 0.75, 3},
		{[]float64{1, 2, 4}, 1, 4},
	} {
		if got := quantile(c.values, c.q); got != c.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", c.values, c.q, got, c.want)
		}
	}
}

func TestMargin(t *testing.T) {
	values := make([]float64, 100) // of which the 40th to the 60th are about what 95 % of medians lie between
	for i := range values {
		values[i] = float64(i)
	}
	if got := margin(values); got < 9 || got > 11 {
		t.Errorf("margin of 0..99 is %v, want about 10", got)
	}
	if got := margin([]float64{1, 3}); got != 1 {
		t.Errorf("margin of two values is %v, want 1: between them", got)
	}
}

// TestCalmer has two rounds in which the machine was busy: one throughout, one in a single cell.
func TestCalmer(t *testing.T) {
	rounds := []round{
		{bareCall: {ns: 9}, perdure: {ns: 90}},
		{bareCall: {ns: 4}, perdure: {ns: 11}},
		{bareCall: {ns: 4}, perdure: {ns: 70}},
		{bareCall: {ns: 5}, perdure: {ns: 10}},
	}
	for i, r := range calmer(rounds) {
		if r[perdure].ns > 11 {
			t.Errorf("round %d of the calmer ones is %v", i, r)
		}
	}
	if n := len(calmer(rounds[:1])); n != 1 {
		t.Errorf("%d of a single round count, want 1", n)
	}
}
