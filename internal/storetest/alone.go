package storetest

import (
	"context"
	"sync"
	"testing"

	"github.com/seed-0f2c7998/perdure/circuit"
)

func testClose(t *testing.T, s Subject) {
	t.Helper()
	p, c := s.Open(t), quick()
	c.Store = p.Store
	b := circuit.New("backend", c)
	p.ready(t)
	var work sync.WaitGroup
	begun := make(chan struct{}, 4)
	for range 4 {
		work.Go(func() {
			for i := range 2000 {
				if err := b.Do(t.Context(), func(context.Context) error { return nil }); err != nil {
					t.Errorf("call %d fails: %v", i, err)
					return
				}
				if i == 100 {
					begun <- struct{}{}
				}
			}
		})
	}
	<-begun
	if p.Close != nil {
		p.Close()
		p.Close()
	}
	work.Wait()
	worksAlone(t, b)
}

// worksAlone checks that b trips and recovers without its store.
func worksAlone(t *testing.T, b *circuit.Breaker) {
	t.Helper()
	fail(t, b)
	probe(t, []*circuit.Breaker{b}).Success()
	if b.State() != circuit.Closed {
		t.Errorf("after a successful probe the breaker is %v", b.State())
	}
}

func testAway(t *testing.T, s Subject) {
	t.Helper()
	if s.Away == nil {
		t.Skip("this store is always reachable")
	}
	b := s.breakers(t, 2, quick())
	s.Away()
	for i := range b {
		worksAlone(t, b[i])
	}
	if p := s.process(t); p.Store != nil { // opened while the store is unreachable
		c := quick()
		c.Store = p.Store
		b = append(b, circuit.New("backend", c))
		worksAlone(t, b[2])
	}
	s.Back()
	b[0].Isolate()
	eventually(t, func() bool { return all(b, are(circuit.Isolated)) }, "the breakers are shared again")
}

func testSpoiled(t *testing.T, s Subject) {
	t.Helper()
	if s.Spoil == nil {
		t.Skip("the state of this store cannot be replaced")
	}
	s.Spoil(t, "backend")
	for _, b := range s.breakers(t, 2, quick()) {
		worksAlone(t, b)
	}
}
