package guard

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

const (
	maxPush     = 1 << 20     // bytes of a push, counted as [maxSize]
	maxInFlight = 4 * maxSize // bytes of the replies to a series of requests without a pause
)

// A kind is a kind of reply to a request.
type kind uint8

const (
	plain       kind = iota
	subscribe        // a push for each channel
	unsubscribe      // pushes for channels, if there are any; the client sends a PING next
	pong             // the reply to that PING, which also ends the unsubscribe
	role             // an array of at least 1 element
	master           // an array of at least 2 elements: an address
)

// kindOf returns the kind of a request.
func kindOf(m *message, last kind) kind {
	switch m.text() {
	case "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE":
		return subscribe
	case "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE":
		return unsubscribe
	case "PING":
		if last == unsubscribe {
			return pong
		}
	case "ROLE":
		return role
	case "SENTINEL":
		if bytes.EqualFold(m.texts[1], []byte("GET-MASTER-ADDR-BY-NAME")) {
			return master
		}
	}
	return plain
}

// A pending is a request without a reply.
type pending struct {
	kind  kind
	count int // words of the request
}

// An exchange decides which replies are allowed: those to the requests, in their order,
// and pushes. It counts as the client does; where it differs, it allows fewer replies,
// so the client never reads one that it does not expect.
type exchange struct {
	queue []pending
	last  kind // of the last request

	resp3      bool // the connection began with HELLO 3
	subscribed bool // a request about channels was sent: without resp3, arrays may be pushes
	confirms   int  // pushes about channels that the last subscribe is still to get
	size       int  // bytes of the replies since the queue was last empty
}

// request records a request.
func (x *exchange) request(m *message) {
	if m.text() == "HELLO" && string(m.texts[1]) == "3" {
		x.resp3 = true
	}
	x.last = kindOf(m, x.last)
	x.subscribed = x.subscribed || x.last == subscribe || x.last == unsubscribe
	x.queue = append(x.queue, pending{x.last, m.count})
}

// pop removes the first request from the queue.
func (x *exchange) pop() {
	if x.queue = x.queue[1:]; len(x.queue) == 0 {
		x.queue, x.size = nil, 0
	}
}

// reply returns an error if a message of the server is not allowed.
func (x *exchange) reply(m *message) error {
	isPush, err := x.isPush(m)
	switch {
	case err != nil:
		return err
	case isPush:
		return x.push(m)
	case len(x.queue) == 0:
		return errors.New("a reply without a request")
	}
	if x.size += m.size; x.size > maxInFlight {
		return fmt.Errorf("replies of more than %d bytes to requests that were sent together", maxInFlight)
	}
	if err := checkRedirect(m); err != nil {
		return err
	}
	return x.accept(m)
}

// pushes holds the number of elements of each push that the client knows.
//
//nolint:gochecknoglobals // a constant table
var pushes = map[string]int{
	"message": 3, "pmessage": 4, "smessage": 3, "invalidate": 2,
	"subscribe": 3, "psubscribe": 3, "ssubscribe": 3,
	"unsubscribe": 3, "punsubscribe": 3, "sunsubscribe": 3,
}

// isPush reports whether m is a push: in RESP2 an array of the right form, and
// only on a connection that has channels.
func (x *exchange) isPush(m *message) (bool, error) {
	if m.typ == '>' || x.resp3 || m.count == 0 {
		return m.typ == '>', nil
	}
	_, known := pushes[m.text()]
	switch {
	case x.subscribed && m.text() == "pong", !x.subscribed && !known:
		return false, nil
	case x.subscribed && known && m.typ == '*':
		return true, nil
	}
	return false, fmt.Errorf("an array %.20q on this connection", m.text())
}

// push returns an error if a push is not allowed.
func (x *exchange) push(m *message) error {
	name := m.text()
	count, known := pushes[name]
	switch {
	case m.size > maxPush:
		return fmt.Errorf("a push of more than %d bytes", maxPush)
	case m.count == 0, known && m.count != count:
		return fmt.Errorf("a push %.20q of %d elements", name, m.count)
	case name == "message":
		return checkEvent(m)
	case !strings.HasSuffix(name, "subscribe") || !known:
		return nil
	case x.confirms > 0:
		x.confirms--
	case !strings.Contains(name, "unsub"):
		if len(x.queue) == 0 || x.queue[0].kind != subscribe {
			return errors.New("a subscription without a request")
		}
		x.confirms = x.queue[0].count - 2
		x.pop()
	}
	return nil
}

// accept removes the first request from the queue, or returns an error if m cannot be
// its reply.
func (x *exchange) accept(m *message) error {
	isError := m.typ == '-' || m.typ == '!'
	is := x.queue[0].kind
	switch {
	case is == subscribe && (!isError || m.text() == "QUEUED"):
		return errors.New("an invalid reply to a subscription")
	case is == role && m.count < 1 && hasElements(m), is == master && m.count < 2 && hasElements(m):
		return fmt.Errorf("an array of %d elements", m.count)
	case is == unsubscribe, is == pong:
		return x.acceptUnsubscribe(m, is)
	}
	x.pop()
	return nil
}

// hasElements reports whether m is an array, set or map, possibly empty.
func hasElements(m *message) bool { return strings.IndexByte("*~%", m.typ) >= 0 }

// acceptUnsubscribe is accept for an unsubscribe and the PING that follows it. The
// client takes a PONG, or an error that seems to be about the PING, for the reply to
// both, and any other reply for the reply to the unsubscribe.
func (x *exchange) acceptUnsubscribe(m *message, is kind) error {
	text := m.text()
	ends := text == "PONG" && !hasElements(m) || m.count > 0 && text == "pong" ||
		m.typ == '-' && (strings.HasPrefix(text, "LOADING") || strings.HasPrefix(text, "BUSY") || strings.Contains(text, "'ping'"))
	switch {
	case m.lengths[0] > maxText, text == "QUEUED", is == pong && !ends,
		is == unsubscribe && (len(x.queue) < 2 || x.queue[1].kind != pong):
		return errors.New("an invalid reply to a subscription")
	case is == unsubscribe && ends:
		x.pop()
	}
	x.pop()
	return nil
}

// checkRedirect returns an error if a redirection lacks the word that the client takes
// for the address.
func checkRedirect(m *message) error {
	if m.typ != '-' && m.typ != '!' {
		return nil
	}
	text := strings.TrimPrefix(m.text(), "ERR ")
	for name, words := range map[string]int{"MOVED": 3, "ASK": 3, "REDIRECT": 2} {
		if strings.HasPrefix(text, name) && strings.Count(text, " ")+1 < words {
			return fmt.Errorf("an error %s that names no address", name)
		}
	}
	return nil
}

// checkEvent returns an error if an event of a sentinel lacks the words that the client
// takes for the address.
func checkEvent(m *message) error {
	event, words := string(m.texts[2]), 0
	switch string(m.texts[1]) {
	case "+sentinel":
		words = 4
	case "+switch-master":
		words = 5
	case "+reboot":
		words = 4
		fallthrough
	case "+slave", "+sdown", "-sdown":
		if strings.HasPrefix(event, "slave ") || event == "slave" {
			words = 6
		}
	}
	if strings.Count(event, " ")+1 < words {
		return fmt.Errorf("an event %q of fewer than %d words", m.texts[1], words)
	}
	return nil
}
