package transfer

import (
	"context"
	"sync"
)

// Together returns a context for requests that are sent at the same time. fail ends it with the first failure; nil is none. end
// ends it too, and returns that failure, or else the cause of ctx if ctx has ended. The failure is not the cause of the context:
// net/http gives the connection of a request away before it has read a response without a body, and if that request is ended
// then, its cause becomes the error of another object's request.
func Together(ctx context.Context) (together context.Context, fail func(error), end func() error) {
	together, cancel := context.WithCancel(ctx)
	var once sync.Once
	var first error
	settle := func(err error) {
		once.Do(func() {
			first = err
			cancel()
		})
	}
	fail = func(err error) {
		if err != nil && together.Err() == nil {
			settle(err)
		}
	}
	end = func() error {
		settle(context.Cause(ctx))
		return first
	}
	return together, fail, end
}
