package circuit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/seam"
)

// This file goes through every call of two layers that share a breaker: of each
// class, around none, one or two calls further in of each class, and compares
// what the breaker has counted with what a naive reading of the rules says.

// none is the class of a call that succeeds.
const none = class.Ignored + 1

// A player plays one call. The zero player does it right; the others have a bug.
type player struct {
	meaning func(class.Class) class.Class // of a call's end; nil: its own
	alone   bool                          // the layers do not find each other
	again   bool                          // what the layer further out says counts in any case
}

// finish records the end of a call.
func (p player) finish(ctx context.Context, permit Permit, c class.Class) {
	if p.meaning != nil {
		c = p.meaning(c)
	}
	if c == none {
		permit.successOf(ctx)
		return
	}
	permit.recordEnd(ctx, seam.Result{Err: errDown, Class: uint8(c), Limit: time.Minute})
}

// play makes a call that ends with outer, around calls that end with each of inner.
func (p player) play(ctx context.Context, b *Breaker, outer class.Class, inner []class.Class) error {
	within, permit, err := b.begin(ctx)
	if err != nil {
		return err
	}
	if p.alone {
		within = ctx
	}
	for _, c := range inner {
		further, own, err := b.begin(within)
		if err != nil {
			return fmt.Errorf("a call with the permit of its outer layer is refused: %w", err)
		}
		p.finish(further, own, c)
	}
	p.finish(within, permit, outer)
	if p.again {
		p.finish(ctx, b.current(), outer)
	}
	return nil
}

// counted returns the classes that count, of such a call.
func counted(outer class.Class, inner []class.Class) (all []class.Class) {
	kept := class.Ignored // a success further in that may be the last word
	for _, c := range inner {
		if kept != class.Ignored {
			all, kept = append(all, kept), class.Ignored
		}
		switch c {
		case none, class.Permanent, class.Conflict:
			kept = c
		case class.Ignored:
		default:
			all = append(all, c)
		}
	}
	switch {
	case outer == class.Ignored && kept != class.Ignored:
		return append(all, kept)
	case outer != class.Ignored && (kept != class.Ignored || len(all) == 0):
		return append(all, outer)
	}
	return all
}

// tallied is what a closed breaker with one failure and one throttled response
// has counted after the classes all, in words.
func tallied(all []class.Class) string {
	failures, row, tokens := 1, 1, Tokens(0)
	for _, c := range all {
		switch c {
		case class.Transient, class.Unknown:
			failures++
		case class.Throttled:
			row++
		case class.Conflict:
			failures, row = 0, 0
		default:
			failures, row = 0, 0
			tokens += reward
		}
	}
	return fmt.Sprintf("%d failures, %d throttled, %d twentieths", failures, row, tokens)
}

// closedModel compares one call through a closed breaker.
func (p player) closedModel(ctx context.Context, outer class.Class, inner []class.Class) error {
	b := New("x", quiet(Config{FailureThreshold: 100, Budget: 10}))
	b.withdraw(Token)
	b.RecordFailure()
	b.current().Throttled(0)
	if err := p.play(ctx, b, outer, inner); err != nil {
		return err
	}
	w := packedState(b.cell.Load().Breaker.Load())
	balance, _ := b.balance()
	got := fmt.Sprintf("%d failures, %d throttled, %d twentieths", w.failures(), w.throttled(), balance)
	if want := tallied(counted(outer, inner)); got != want {
		return fmt.Errorf("%v around %v: %s, want %s", outer, inner, got, want)
	}
	return nil
}

// probeModel compares one probe of a half-open breaker.
func (p player) probeModel(ctx context.Context, outer class.Class, inner []class.Class) error {
	b := New("x", quiet(Config{}))
	b.cell.Load().Breaker.Store(uint64(packedState(0).next(Open)))
	if err := p.play(ctx, b, outer, inner); err != nil {
		return err
	}
	want := HalfOpen
	for _, c := range counted(outer, inner) {
		switch c {
		case class.Transient, class.Unknown, class.Throttled:
			want = Open
		default:
			want = Closed
		}
	}
	w := packedState(b.cell.Load().Breaker.Load())
	if w.state() != want || want == HalfOpen && w.inFlight() != 0 {
		return fmt.Errorf("a probe, %v around %v, leads to %v with %d out, want %v", outer, inner, w.state(), w.inFlight(), want)
	}
	return nil
}

// explore returns the first fault of any call.
func (p player) explore(ctx context.Context) (calls int, fault error) {
	for outer := class.Unknown; outer <= none; outer++ {
		for first := class.Unknown; first <= none+1; first++ {
			for second := class.Unknown; second <= none+1; second++ {
				var inner []class.Class // none+1: there is no such call
				if first <= none {
					inner = append(inner, first)
				}
				if second <= none {
					inner = append(inner, second)
				}
				err := p.closedModel(ctx, outer, inner)
				if len(inner) < 2 {
					err = errors.Join(err, p.probeModel(ctx, outer, inner))
				}
				if calls++; err != nil {
					return calls, err
				}
			}
		}
	}
	return calls, nil
}

func TestNestedModel(t *testing.T) {
	calls, err := player{}.explore(t.Context())
	if err != nil || calls < 400 {
		t.Errorf("after %d calls: %v", calls, err)
	}
}

// The model finds bugs that are planted in the classes, and in how layers find each other.
func TestNestedModelFindsBugs(t *testing.T) {
	as := func(from, to class.Class) func(class.Class) class.Class {
		return func(c class.Class) class.Class {
			if c == from {
				return to
			}
			return c
		}
	}
	for name, c := range map[string]struct {
		player player
		want   string
	}{
		"an unknown error is a success":         {player{meaning: as(class.Unknown, class.Permanent)}, "0 failures"},
		"an unknown error says nothing":         {player{meaning: as(class.Unknown, class.Ignored)}, "1 failures"},
		"a conflict is a failure":               {player{meaning: as(class.Conflict, class.Transient)}, "want 1 failures, 0 throttled"},
		"a conflict pays":                       {player{meaning: as(class.Conflict, class.Permanent)}, "4 twentieths"},
		"a throttled response is a failure":     {player{meaning: as(class.Throttled, class.Transient)}, "1 throttled"},
		"a throttled response is a success":     {player{meaning: as(class.Throttled, class.Permanent)}, "want 2 failures, 2 throttled"},
		"a call that was not made is a failure": {player{meaning: as(class.Ignored, class.Transient)}, "failures"},
		"layers do not find each other":         {player{alone: true}, "3 failures"},
		"the layer further out counts again":    {player{again: true}, "failures"},
	} {
		if _, err := c.player.explore(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the model says %v, want %q", name, err, c.want)
		}
	}
}
