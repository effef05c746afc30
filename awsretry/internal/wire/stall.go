package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// ErrStalled says that nothing has come for too long.
var ErrStalled = errors.New("the connection has stalled")

// Limited returns the body of an answer, each of whose reads must end within a
// time, or it is ErrStalled. It ends the request when it is closed, or stalls.
func Limited(body io.ReadCloser, limit time.Duration, end context.CancelFunc) io.ReadCloser {
	l := &readLimit{body: body, limit: limit, end: end}
	l.timer = time.AfterFunc(limit, func() {
		l.stalled.Store(true)
		end()
	})
	l.timer.Stop()
	return l
}

// A readLimit is for reading what a writeLimit is for writing.
type readLimit struct {
	body    io.ReadCloser
	limit   time.Duration
	end     context.CancelFunc
	timer   *time.Timer
	stalled atomic.Bool
}

func (l *readLimit) Read(p []byte) (int, error) {
	l.timer.Reset(l.limit)
	n, err := l.body.Read(p)
	l.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) && l.stalled.Load() {
		err = fmt.Errorf("%w: nothing for %v", ErrStalled, l.limit)
	}
	return n, err
}

func (l *readLimit) Close() error {
	l.timer.Stop()
	l.end()
	return l.body.Close()
}
