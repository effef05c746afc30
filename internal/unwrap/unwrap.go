// Package unwrap searches the tree of errors that an error wraps. Unlike the functions of package errors, these end for
// every tree: an Unwrap method may return its own error, or a new error each time.
package unwrap

// The limits of a search. Errors beyond them are not visited.
const (
	maxDepth = 100
	maxNodes = 1000
)

// A Step says which errors a walk visits next.
type Step uint8

// The steps.
const (
	Inward Step = iota // the errors in this error, then those joined with it
	Past               // the errors joined with this error
	Stop               // no errors
)

// Walk visits err and the errors in it, outermost first. A panic in a method of an error passes through.
func Walk(err error, visit func(error) Step) {
	walk(err, visit, maxDepth, maxNodes)
}

// walk returns how many more errors may be visited.
func walk(err error, visit func(error) Step, depth, left int) int {
	for ; err != nil && depth > 0 && left > 0; depth-- {
		left--
		if step := visit(err); step == Stop {
			return 0
		} else if step == Past {
			return left
		}
		switch e := err.(type) { //nolint:errorlint // walk unwraps
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			for _, err := range e.Unwrap() {
				left = walk(err, visit, depth-1, left)
			}
			return left
		default:
			return left
		}
	}
	return left
}

// Any reports whether is returns true for err or an error in it. Unlike [errors.As], Any does not end at the first error
// of a type: a later one may be the one that matters.
func Any(err error, is func(error) bool) (found bool) {
	Walk(err, func(err error) Step {
		if found = is(err); found {
			return Stop
		}
		return Inward
	})
	return found
}

// Is is [errors.Is] with the limits of this package. The target must be comparable.
func Is(err, target error) bool {
	return Any(err, func(err error) bool { return Same(err, target) })
}

// Same reports whether err itself is target or has an Is method that returns true for target.
func Same(err, target error) bool {
	if err == target { //nolint:errorlint // Any unwraps
		return true
	}
	e, ok := err.(interface{ Is(target error) bool })
	return ok && e.Is(target)
}

// As is [errors.AsType] with the limits of this package.
func As[E any](err error) (e E, ok bool) {
	Any(err, func(err error) bool {
		if e, ok = err.(E); !ok {
			if as, has := err.(interface{ As(target any) bool }); has {
				var target E // on the heap, for few errors only
				if ok = as.As(&target); ok {
					e = target
				}
			}
		}
		return ok
	})
	return e, ok
}
