package gate

// A kind is what a task does.
type kind uint8

const (
	admit kind = iota
	arrive
	done
	limit
	reset
	sample
	doubt
	warn
	hasten
)

// A task is one change of the words, made in single accesses, so that a test can interleave
// the tasks of several processes at each access.
type task struct {
	Gate

	kind    kind
	now     int64
	follows bool // of admit, as is the next
	alone   bool
	u       float64 // of hasten
	permit  Permit  // of done
	outcome Outcome // of done

	at       access
	old      [3]uint64
	new      [3]uint64
	next     state
	how      How
	admitted bool
	change   Change
}

// An access is the next access of a task to the words.
type access uint8

const (
	reading   access = iota // read all words, and decide
	preparing               // write the second and third, which a limit starts from scratch and which are not read in health
	deciding                // swap the first
	pacing                  // swap the second
	returning               // give back the credit, because another process came first at the pace
	counting                // write the third
	finished
)

// run makes the change of t.
func (g Gate) run(t task) task {
	t.Gate = g
	for t.at != finished {
		t.advance()
	}
	return t
}

// advance makes the next access.
func (t *task) advance() {
	w := t.Words
	switch t.at {
	case reading:
		t.old = [3]uint64{w[0].Load(), w[1].Load(), w[2].Load()}
		t.plan()
		t.at = t.first()
	case preparing:
		w[1].Store(t.new[1])
		w[2].Store(t.new[2])
		t.at = deciding
	case deciding:
		t.at = t.swapped(w[0].CompareAndSwap(t.old[0], t.new[0]))
	case pacing:
		t.at = finished
		if !w[1].CompareAndSwap(t.old[1], t.new[1]) {
			t.at = t.raced()
		}
	case returning:
		first := w[0].Load()
		if first>>limitedShift != t.new[0]>>limitedShift || w[0].CompareAndSwap(first, first+1<<creditShift) {
			t.at = reading
		}
	case counting:
		t.at = finished
		if t.kind != arrive {
			w[2].Store(t.new[2])
		} else if !w[2].CompareAndSwap(t.old[2], t.new[2]) {
			t.at = reading
		}
	case finished:
	}
}

// plan decides by the words that were read.
func (t *task) plan() {
	s := t.view(t.old[0], t.old[1], t.old[2], t.now)
	before := s
	t.change = Unchanged
	switch t.kind {
	case admit:
		t.how, t.admitted = s.admit(t.now, t.follows, t.alone)
	case arrive:
		s.arrive(t.now)
	case done:
		t.change = s.done(t.permit, t.outcome, t.now)
	case limit:
		if !s.limited {
			s.limit(false, t.now)
			t.change = Limited
		}
	case warn:
		t.change = s.warn(t.now)
	case reset:
		if s.limited {
			t.change = Lifted
		}
		s.lift(t.now)
	default:
		t.adjust(&s)
	}
	t.next = s
	t.pack(&before)
}

// adjust makes the small changes.
func (t *task) adjust(s *state) {
	switch t.kind {
	case sample:
		if !s.limited && s.warm == fewest {
			s.warm--
		}
	case hasten:
		s.hasten(t.now, t.u)
	case doubt:
		if !s.limited && s.generation == t.permit.Generation {
			s.over = max(s.over, 1)
		}
	default:
	}
}

// pack packs the words that the task has changed, so that the others are not written.
func (t *task) pack(before *state) {
	a, b, c := t.next.pack()
	s := &t.next
	t.new = [3]uint64{a, t.old[1], t.old[2]}
	if s.last != before.last || s.refused != before.refused {
		t.new[1] = b
	}
	if s.operations != before.operations || s.since != before.since {
		t.new[2] = c
	}
}

// first returns the first access that writes.
func (t *task) first() access {
	switch {
	case t.change == Limited:
		return preparing
	case t.new[0] != t.old[0]:
		return deciding
	default:
		return t.afterFirst()
	}
}

// swapped returns what follows an attempt to swap the first word.
func (t *task) swapped(ok bool) access {
	switch {
	case !ok:
		return reading
	case t.change == Limited:
		return finished
	default:
		return t.afterFirst()
	}
}

// afterFirst returns the access that writes the other words, when the first is written.
func (t *task) afterFirst() access {
	switch {
	case t.new[1] != t.old[1]:
		return pacing
	case t.new[2] != t.old[2]:
		return counting
	default:
		return finished
	}
}

// raced returns what follows if the second word has changed meanwhile.
func (t *task) raced() access {
	if t.kind == admit && t.how.paid() {
		return returning
	}
	return reading
}
