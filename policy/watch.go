package policy

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"github.com/seed-0f2c7998/perdure/policy/yamlfile"
)

// Watch reloads the file whenever its content has changed, and returns when ctx ends. It
// reads the file at that interval. A change applies when the file is the same twice in a row,
// so that Watch does not use a file that is still being written. Log receives one line for
// each change: Info if the new policies apply, Warn with the error if the old ones stay. The
// path may be a symbolic link that is replaced, as in a volume of Kubernetes. Run Watch on a
// goroutine of its own:
//
//	go set.Watch(ctx, 5*time.Second)
//
// A program that would rather reload on a signal calls [Set.Reload] instead. An interval
// of 0 or less means 5 s.
func (s *Set) Watch(ctx context.Context, every time.Duration) {
	if every <= 0 {
		every = 5 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last look
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := s.look(yamlfile.Regular)
		settled := now.is(last)
		if last = now; settled {
			s.renew(now)
		}
	}
}

// renew applies the file that was read, unless it is the one that was read last.
func (s *Set) renew(now look) {
	s.mu.Lock()
	old := now.is(s.read)
	var err error
	if !old {
		err = s.apply(now)
	}
	s.mu.Unlock()
	switch {
	case old:
	case err != nil:
		s.options.Log.Warn("policies not reloaded, the old ones stay: "+err.Error(), "file", now.path)
	default:
		s.options.Log.Info("policies reloaded", "file", now.path)
	}
}

// A look is what one attempt to read a file found.
type look struct {
	path, text string
	err        error
}

// look reads the file. The error is that of check, if the file cannot be read.
func (s *Set) look(check func(fs.FileInfo) error) look {
	path, text, err := content(s.path, "the policy file", check)
	return look{path, string(text), err}
}

// is reports whether both found the same.
func (l look) is(other look) bool {
	return l.path == other.path && l.text == other.text && fmt.Sprint(l.err) == fmt.Sprint(other.err)
}
