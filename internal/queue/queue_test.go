package queue_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/queue"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

type caller struct {
	queue.Entry

	leave int64
	order int
}

// The head is always the caller that must leave first, and of two the one that joined
// first, as in a sorted slice.
func TestTheHeadLeavesFirst(t *testing.T) {
	r := rand.New(rand.NewPCG(testseed.Of(t, 0), 0))
	var q queue.Queue[*caller]
	var twin []*caller
	for i := range 10_000 {
		if r.IntN(5) < 3 {
			c := &caller{leave: r.Int64N(50), order: i}
			q.Join(c, c.leave)
			at, _ := slices.BinarySearchFunc(twin, c, func(a, b *caller) int {
				if a.leave != b.leave {
					return int(a.leave - b.leave)
				}
				return a.order - b.order
			})
			twin = slices.Insert(twin, at, c)
		} else if len(twin) > 0 {
			at := r.IntN(len(twin)) * r.IntN(2)
			c := twin[at]
			twin = slices.Delete(twin, at, at+1)
			if !q.Leave(c) || q.Leave(c) {
				t.Fatal("who leaves was in the queue, and then is not")
			}
		}
		if q.Len() != len(twin) || len(twin) > 0 && (q.Head() != twin[0] || q.Head().Leaves() != twin[0].leave) {
			t.Fatalf("step %d: %d are in the queue, want %d, or its head is another", i, q.Len(), len(twin))
		}
	}
}
