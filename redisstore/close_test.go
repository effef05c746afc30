package redisstore_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// After Close no call waits for the server.
func TestClosedStore(t *testing.T) {
	srv := startServer(t)
	m := fleet(t, 1, brisk(srv), circuit.Config{FailureThreshold: 1})[0]
	var all sync.WaitGroup
	for range 4 {
		all.Go(m.Close)
	}
	all.Wait()
	fail(t, m.Breaker)
	if m.State() != circuit.Open {
		t.Errorf("after Close a breaker that fails is %v, want open", m.State())
	}
	circuit.New("later", circuit.Config{Store: m.Store})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := m.Ready(ctx); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("Ready after Close: %v, want at once an error that says closed", err)
	}
	began := time.Now()
	m.Close()
	if took := time.Since(began); took > patience/2 {
		t.Errorf("a second Close took %v", took)
	}
}
