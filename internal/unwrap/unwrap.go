// Package unwrap finds errors in the tree of errors that an error wraps. Unlike the functions of package errors, these
// end however the tree is made: an Unwrap method may lead back to its own error, or make another one each time.
package unwrap

// How much of a tree is looked at. What lies beyond is as if it were not there.
const (
	maxDepth = 100
	maxNodes = 1000
)

// A Step is how a walk goes on after an error.
type Step uint8

// The steps.
const (
	Inward Step = iota // to the errors in it, then to its neighbors
	Past               // to its neighbors: errors that are joined with it
	Stop
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
		switch e := err.(type) { //nolint:errorlint // this is what unwraps
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

// Any reports whether is holds for err or any error in it. Unlike [errors.As] it does not end with the first error of
// a type: of errors that are joined each may be the one that counts.
func Any(err error, is func(error) bool) (found bool) {
	Walk(err, func(err error) Step {
		if found = is(err); found {
			return Stop
		}
		return Inward
	})
	return found
}

// Is is [errors.Is], with an end. The target must be comparable.
func Is(err, target error) bool {
	return Any(err, func(err error) bool { return Same(err, target) })
}

// Same reports whether err itself is target, or says so by its Is method.
func Same(err, target error) bool {
	if err == target { //nolint:errorlint // Any unwraps
		return true
	}
	e, ok := err.(interface{ Is(target error) bool })
	return ok && e.Is(target)
}

// As is [errors.AsType], with an end.
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
