package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// later returns a line for a person about an error with the exit code TryLater: who asked
// for the wait, until when, and what to do. It returns "" for other errors.
func (a *app) later(err error, now time.Time) string {
	if exit.Code(err) != exit.TryLater {
		return ""
	}
	open, isOpen := errors.AsType[*circuit.OpenError](err)
	limit, isLimit := errors.AsType[*circuit.LimitError](err)
	who, reset := "", ""
	switch {
	case isOpen:
		who, reset = "circuit breaker "+quoted(open.Name), open.Name
	case isLimit:
		who = "the " + limit.Limit.String() + " limit of " + quoted(limit.Name)
	case errors.Is(err, retry.ErrRetryLater):
		who = "the server (Retry-After)"
	default:
		return ""
	}
	text := who + " asks to wait"
	at := exit.RetryAt(err)
	if !at.IsZero() {
		text += " until " + clock(at, now)
	}
	if ways := a.ways(at, now, reset); len(ways) > 0 {
		text += ". To " + strings.Join(ways, "; to ")
	}
	return text
}

// ways returns what the user of this command can do about a wait until at. reset is the
// name of the breaker that has to let calls pass again, or "".
func (a *app) ways(at, now time.Time, reset string) (ways []string) {
	if a.command == nil {
		return nil
	}
	if a.command.Flag("wait") != nil && !at.IsZero() {
		ways = append(ways, fmt.Sprintf("wait: --wait %dm", int(max(0, at.Sub(now))/time.Minute)+1))
	}
	if reset != "" && a.command.Flag("store") != nil {
		ways = append(ways, "let calls pass now: perdure breaker reset "+quoted(reset), "go around it: --store memory")
	}
	return ways
}

// clock returns an instant as local time, and how far it is from now.
func clock(at, now time.Time) string {
	layout := "15:04:05 MST"
	if at.Sub(now) >= 12*time.Hour {
		layout = "2006-01-02 " + layout
	}
	return at.Local().Format(layout) + " (in " + span(at.Sub(now)) + ")"
}

// span returns a duration for people: "28 s", "2 min", "3 h 5 min".
func span(d time.Duration) string {
	d = max(0, d).Round(time.Second)
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d.Round(time.Minute)/time.Minute)
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
}

// quoted returns text as one word of a shell.
func quoted(text string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%+-./:=@_,"
	if text != "" && !strings.ContainsFunc(text, func(c rune) bool { return !strings.ContainsRune(plain, c) }) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
