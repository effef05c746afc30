package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
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
	who, at := "", exit.RetryAt(err)
	ways := a.waits(at, now)
	switch {
	case isOpen:
		who = "circuit breaker " + quoted(open.Name)
		ways = append(ways, a.resets(open.Name)...)
	case isLimit:
		who = "the " + limit.Limit.String() + " limit of " + quoted(limit.Name)
		if at.IsZero() && a.has("wait") {
			ways = append(ways, "wait for another call to end: --wait 10m")
		}
	case errors.Is(err, retry.ErrRetryLater):
		who = "the server (Retry-After)"
	default:
		return ""
	}
	if (isOpen || isLimit) && a.has("store") && a.store != "memory" {
		ways = append(ways, "go around it: --store memory")
	}
	text := who + " asks to wait"
	if !at.IsZero() {
		text += " until " + report.Instant(at, now)
	}
	if len(ways) > 0 {
		text += ". To " + strings.Join(ways, "; to ")
	}
	return text
}

// has reports whether the command that runs has a flag.
func (a *app) has(flag string) bool { return a.command != nil && a.command.Flag(flag) != nil }

// waits returns how the command can wait until at, if it can.
func (a *app) waits(at, now time.Time) []string {
	if at.IsZero() || !a.has("wait") {
		return nil
	}
	return []string{fmt.Sprintf("wait: --wait %dm", int(max(0, at.Sub(now))/time.Minute)+1)}
}

// resets returns how the breaker of that name can be made to let calls pass, unless it ends
// with this process.
func (a *app) resets(name string) []string {
	if !a.has("store") || a.store == "memory" {
		return nil
	}
	text := "let calls pass now: perdure breaker reset " + quoted(name)
	if a.command.Flag("store").Changed {
		text += " with the same --store"
	}
	return []string{text}
}

// quoted returns text as one word of a shell.
func quoted(text string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%+-./:=@_,"
	if text != "" && !strings.ContainsFunc(text, func(c rune) bool { return !strings.ContainsRune(plain, c) }) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
