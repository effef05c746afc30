package sim

// A kind is what an event is.
type kind uint8

const (
	void     kind = iota // nothing any more
	arrival              // operations arrive
	thought              // a client of a closed loop begins its next operation
	request              // an attempt reaches the backend
	done                 // a worker has finished a request
	response             // a response reaches the client
	timeout              // an attempt has taken as long as it may
	wake                 // an operation asks for its next attempt
	look                 // the line at a gate needs a step
	late                 // an attempt without a timeout takes too long
	change               // a fault begins, ends, or goes on
)

// An event is something that happens at an instant. Those of one instant happen
// in the order in which they were scheduled.
type event struct {
	at     int64 // nanoseconds since the beginning
	number uint64
	took   int64  // of done: by the worker
	op     int32  // of what happens to an attempt: the operation; of change: the fault; of look: the process
	turn   uint32 // of what happens to an attempt: which, see operation
	shard  uint16
	kind   kind
	answer answer
}

// Of thought, op and turn are the client's process and its number there.
func (e event) process() int { return int(e.op) }
func (e event) client() int  { return int(e.turn) }

func (e *event) before(f *event) bool {
	return e.at < f.at || e.at == f.at && e.number < f.number
}

// An agenda is the events to come. Its zero value is empty. Most timeouts never
// matter, and all are equally long, so they have a line of their own, which
// costs less than a place in the heap.
type agenda struct {
	heap   []event // four children each
	line   []event // timeouts, the first to come at first
	passed int     // of the line
	number uint64
}

// add schedules e.
func (a *agenda) add(e event) {
	a.number++
	e.number = a.number
	a.heap = append(a.heap, e)
	i := len(a.heap) - 1
	for i > 0 {
		parent := (i - 1) / 4
		if !e.before(&a.heap[parent]) {
			break
		}
		a.heap[i] = a.heap[parent]
		i = parent
	}
	a.heap[i] = e
}

// addTimeout schedules e, which is likely to be later than the last timeout.
func (a *agenda) addTimeout(e event) {
	if n := len(a.line); n > a.passed && e.at < a.line[n-1].at {
		a.add(e)
		return
	}
	if a.passed > 1024 && a.passed > len(a.line)/2 {
		a.line = a.line[:copy(a.line, a.line[a.passed:])]
		a.passed = 0
	}
	a.number++
	e.number = a.number
	a.line = append(a.line, e)
}

// next takes the first event out.
func (a *agenda) next() (event, bool) {
	inLine := a.passed < len(a.line)
	switch {
	case len(a.heap) == 0 && !inLine:
		return event{}, false
	case inLine && (len(a.heap) == 0 || a.line[a.passed].before(&a.heap[0])):
		a.passed++
		return a.line[a.passed-1], true
	}
	first := a.heap[0]
	last := a.heap[len(a.heap)-1]
	a.heap = a.heap[:len(a.heap)-1]
	if len(a.heap) > 0 {
		a.sink(last)
	}
	return first, true
}

// sink puts e at the top of the heap, and from there to where it belongs.
func (a *agenda) sink(e event) {
	i := 0
	for {
		child := 4*i + 1
		if child >= len(a.heap) {
			break
		}
		least := child
		for c := child + 1; c < min(child+4, len(a.heap)); c++ {
			if a.heap[c].before(&a.heap[least]) {
				least = c
			}
		}
		if !a.heap[least].before(&e) {
			break
		}
		a.heap[i] = a.heap[least]
		i = least
	}
	a.heap[i] = e
}
