package class

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/neterr"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

// An error may have these methods, at any depth, to be understood.
type (
	coder     interface{ ErrorCode() string }   // as the AWS SDK's errors
	stater    interface{ SQLState() string }    // as those of pgx and lib/pq
	statuser  interface{ HTTPStatusCode() int } // as the SDK's response errors
	retryable interface{ RetryableError() bool }
	hinter    interface {
		RetryAfter() (wait time.Duration, ok bool)
	}
)

// Of returns the class of an error for which there are no rules but the general ones: what a mark in it says, what it
// says of itself, and what is known of errors in general. With timedOut it ended an attempt whose time was up. What no
// rule knows is Unknown.
func Of(err error, timedOut bool) Class {
	if m := ReadMarks(err); m.Class != Unknown {
		return m.Class
	}
	f := Look(err)
	return f.General(timedOut)
}

// Findings are what the errors in an error say; of each kind the outermost that says anything.
type Findings struct {
	code, state, status, stop, said Class
	end                             End
	canceled, badConn               bool
	net                             neterr.Findings
}

// Look returns what err and the errors in it say.
func Look(err error) Findings {
	var f Findings
	unwrap.Walk(err, func(err error) unwrap.Step {
		f.add(err)
		return unwrap.Inward
	})
	return f
}

func (f *Findings) add(err error) {
	switch e := err.(type) { //nolint:errorlint // Look unwraps
	case *Mark, interface{ noCall() }: // of which ReadMarks tells
		return
	case *Stop:
		first(&f.stop, e.Class)
		return
	case interface{ end() (Class, bool) }:
		if c, known := e.end(); known && !f.end.known {
			f.end = EndOf(c, nil)
		}
		return
	}
	if e, ok := err.(coder); ok {
		first(&f.code, OfCode(e.ErrorCode()))
	}
	if e, ok := err.(stater); ok {
		first(&f.state, OfState(e.SQLState()))
	}
	if e, ok := err.(statuser); ok {
		first(&f.status, OfStatus(e.HTTPStatusCode()))
	}
	if e, ok := err.(retryable); ok {
		first(&f.said, saidClass(e.RetryableError()))
	}
	f.canceled = f.canceled || unwrap.Same(err, context.Canceled)
	f.badConn = f.badConn || unwrap.Same(err, driver.ErrBadConn)
	f.net.Add(err)
}

// first gives known the value c, if it has none yet.
func first(known *Class, c Class) {
	if *known == Unknown {
		*known = c
	}
}

func saidClass(retryable bool) Class {
	if retryable {
		return Transient
	}
	return Permanent
}

// General returns the class by what the error says of itself and what is known of errors in general.
func (f *Findings) General(timedOut bool) Class {
	c := f.ended()
	if timedOut && (c == Unknown || c == Ignored) {
		return Transient // whatever the operation made of it
	}
	return c
}

// ended returns the class, of which another retry further in has the first word.
func (f *Findings) ended() Class {
	switch {
	case f.end.known:
		return f.end.class
	case f.stop == Unknown:
		return f.alone()
	case f.stop == Transient:
		if c := f.alone(); c.Retried() {
			return c
		}
	}
	return f.stop
}

func (f *Findings) alone() Class {
	for _, c := range [...]Class{f.code, f.state, f.said, f.status} {
		if c != Unknown {
			return c
		}
	}
	switch {
	case f.canceled:
		return Ignored
	case f.net.IsTimeout():
		return Transient
	case f.net.IsPermanent():
		return Permanent
	case f.net.IsConnection(), f.badConn:
		return Transient
	}
	return Unknown
}

// IsTimeout reports whether err holds a timeout.
func (f *Findings) IsTimeout() bool { return f.net.IsTimeout() }

// IsConnection reports whether err holds a connection that could not be made or that broke, and that may well be there
// at the next attempt.
func (f *Findings) IsConnection() bool { return f.net.IsConnection() }

// Hint returns the wait that err asks for: what the outermost error that asks says, and of errors that are joined the
// longest, since none of their servers is to be called early. 0 means that none asks.
func Hint(err error) (longest time.Duration) {
	unwrap.Walk(err, func(err error) unwrap.Step {
		if h, ok := err.(hinter); ok {
			if wait, ok := h.RetryAfter(); ok && wait > 0 {
				longest = max(longest, wait)
				return unwrap.Past
			}
		}
		return unwrap.Inward
	})
	return longest
}
