package class

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/neterr"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

// The methods of an error, at any depth, from which its class is read.
type (
	coder     interface{ ErrorCode() string }   // errors of the AWS SDK
	stater    interface{ SQLState() string }    // errors of pgx and lib/pq
	statuser  interface{ HTTPStatusCode() int } // response errors of the AWS SDK
	retryable interface{ RetryableError() bool }
	hinter    interface {
		RetryAfter() (wait time.Duration, ok bool)
	}
)

// Of returns the class of err without a policy: from a mark in err, from the methods of err, or by the general rules. It
// is Unknown if no rule knows err. timedOut says that err ended an attempt which had reached its timeout.
func Of(err error, timedOut bool) Class {
	if m := ReadMarks(err); m.Class != Unknown {
		return m.Class
	}
	f := Look(err)
	return f.General(timedOut)
}

// Findings are the facts that the errors in an error give: for each fact, those of the outermost error that has it.
type Findings struct {
	code, state, status, stop, said Class
	end                             End
	canceled, badConn               bool
	net                             neterr.Findings
}

// Look returns the findings of err and of the errors in it.
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
	case *Mark, interface{ noCall() }: // ReadMarks reads these
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

// first sets known to c, unless known is set already.
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

// General returns the class from the methods of the error or by the general rules.
func (f *Findings) General(timedOut bool) Class {
	c := f.ended()
	if timedOut && (c == Unknown || c == Ignored) {
		return Transient // whatever error the operation returned
	}
	return c
}

// ended returns the class that an inner retry has found or, without an inner retry, that of the error alone.
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

// IsConnection reports whether err holds a connection that could not be made or that broke, in a way that the next
// attempt may not meet.
func (f *Findings) IsConnection() bool { return f.net.IsConnection() }

// Hint returns the wait that err asks for, from the outermost error with a RetryAfter method; 0 means no wait. Of joined
// errors Hint returns the longest wait, so that no server is called early.
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
