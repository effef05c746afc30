// Package queue orders the callers that wait by the instant at which each stops
// waiting.
package queue

import "container/heap"

// An Entry is the position of a caller in a [Queue]. Embed it in the type that the queue holds.
type Entry struct {
	leave int64
	order uint64 // of joining
	index int    // in the heap
	in    bool
}

func (e *Entry) entry() *Entry { return e }

// Leaves returns the instant at which the caller stops waiting, as given to [Queue.Join].
func (e *Entry) Leaves() int64 { return e.leave }

// A Queue holds callers. At its head is the caller that stops waiting first; of two that
// stop at the same instant, the one that joined first. W is a pointer to a struct that
// embeds an [Entry]. The zero Queue is empty and ready for use. It is not safe for
// concurrent use.
type Queue[W interface{ entry() *Entry }] struct {
	waiters waiters[W]
	joined  uint64
}

// Join adds w, which stops waiting at leave. w must not be in a queue.
func (q *Queue[W]) Join(w W, leave int64) {
	q.joined++
	*w.entry() = Entry{leave: leave, order: q.joined, in: true}
	heap.Push(&q.waiters, w)
}

// Leave removes w and reports whether it was in the queue.
func (q *Queue[W]) Leave(w W) bool {
	e := w.entry()
	if !e.in {
		return false
	}
	heap.Remove(&q.waiters, e.index)
	return true
}

// Head returns the caller that stops waiting first. The queue must not be empty.
func (q *Queue[W]) Head() W { return q.waiters[0] }

// All returns the callers in the queue, the head first and the others in any order. The
// slice is valid until the queue changes.
func (q *Queue[W]) All() []W { return q.waiters }

// Len returns the number of callers in the queue.
func (q *Queue[W]) Len() int { return len(q.waiters) }

type waiters[W interface{ entry() *Entry }] []W

func (h waiters[W]) Len() int { return len(h) }

func (h waiters[W]) Less(i, j int) bool {
	a, b := h[i].entry(), h[j].entry()
	if a.leave != b.leave {
		return a.leave < b.leave
	}
	return a.order < b.order
}

func (h waiters[W]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].entry().index, h[j].entry().index = i, j
}

func (h *waiters[W]) Push(x any) {
	w := x.(W) //nolint:errcheck,forcetypeassert // Join pushes nothing else
	w.entry().index = len(*h)
	*h = append(*h, w)
}

func (h *waiters[W]) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	w.entry().in = false
	clear((*h)[last:])
	*h = (*h)[:last]
	return w
}
