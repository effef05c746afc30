package wire

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/seed-0f2c7998/perdure/internal/stall"
)

// ErrStalled says that nothing, or too little, has come for too long.
var ErrStalled = errors.New("the connection has stalled")

// Limited returns the body of a response with limits to its reads: one that misses
// them is ErrStalled. It ends the request when it is closed, or stalls.
func Limited(body io.ReadCloser, l stall.Limits, end context.CancelFunc) io.ReadCloser {
	return limited{stall.NewReader(body, l, end)}
}

type limited struct{ io.ReadCloser }

func (l limited) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if e, ok := errors.AsType[*stall.Error](err); ok {
		err = fmt.Errorf("%w: %w", ErrStalled, e)
	}
	return n, err
}
