package outcome

import (
	"context"
	"errors"

	"github.com/seed-0f2c7998/perdure/retry"
)

// A Call is one call of Tx. E is the error of a transaction that may or may not have been committed.
type Call[E error] struct {
	Policy    *retry.Policy                                     // from the function Policy
	Verify    func(context.Context) (committed bool, err error) // the user's; may be nil
	Ambiguous func(commit, verify error) E                      // makes the error
	unsettled bool                                              // Verify has found an attempt uncommitted, and its COMMIT may have come later
}

// Do calls attempt, again as the Policy allows, and returns the error of the call.
func (c *Call[E]) Do(ctx context.Context, attempt func(context.Context) error) error {
	err := retry.Do(ctx, c.Policy, attempt)
	if _, known := errors.AsType[E](err); err == nil || known || !c.unsettled {
		return err
	}
	switch committed, verr := Resolve(ctx, c.Policy, c.Verify); {
	case verr != nil:
		return retry.Final(c.Ambiguous(err, verr))
	case committed:
		return nil
	}
	return err
}

// Lost returns the error of an attempt whose COMMIT failed with err and may have been done: nil if Verify says that it was.
// verr is why the server could not tell; it may be nil.
func (c *Call[E]) Lost(ctx context.Context, err, verr error) error {
	committed := false
	if c.Verify != nil {
		committed, verr = Resolve(ctx, c.Policy, c.Verify)
	}
	switch {
	case c.Verify == nil || verr != nil:
		return retry.Final(c.Ambiguous(err, verr))
	case committed:
		return nil
	}
	c.unsettled = true
	return retry.Transient(err)
}

// Policy returns a copy of p whose Classify also knows the errors of Class. If p is nil, the zero Policy is copied.
func Policy(p *retry.Policy) *retry.Policy {
	var q retry.Policy
	if p != nil {
		q = *p
	}
	own := q.Classify
	q.Classify = func(err error) retry.Class {
		if own != nil {
			if c := own(err); c != retry.ClassUnknown {
				return c
			}
		}
		return Class(err)
	}
	return &q
}

// Resolve calls verify, again while it fails and p allows it. The breaker of p has no say: its permits are for
// transactions, and the caller's transaction may still hold one.
func Resolve(ctx context.Context, p *retry.Policy, verify func(context.Context) (bool, error)) (committed bool, err error) {
	q := *p
	q.Breaker = nil
	if q.Name != "" {
		q.Name += " (verify)"
	}
	own := q.Classify
	q.Classify = func(err error) retry.Class {
		if c, _ := (&retry.Policy{Classify: own}).ClassOf(err); c != retry.ClassUnknown {
			return c
		}
		return retry.ClassTransient // a driver's error for a lost connection may be a plain text
	}
	return retry.Value(ctx, &q, verify)
}
