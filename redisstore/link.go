package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/internal/fleet"
)

// A link is a connection to the server.
type link struct {
	client    rueidis.Client
	prefix    string
	member    fleet.Member
	passwords secrets
}

// connect returns a connection for m.
func connect(server rueidis.ClientOption, prefix string, m fleet.Member) (*link, error) {
	client, err := rueidis.NewClient(server)
	if err != nil {
		return nil, classified(err, passwords(server))
	}
	return &link{client, prefix, m, passwords(server)}, nil
}

// Close ends the connection. It may wait a second for a server that does not respond.
func (l *link) Close() { l.client.Close() }

// channel returns the channel on which changes are published.
func (l *link) channel() string { return l.prefix + "changes" }

// classified returns err with a text that may be shown, as a [fleet.DeniedError] or a
// [fleet.KeyError] if it is about access or about one key.
func classified(err error, passwords secrets) error {
	e, ok := rueidis.IsRedisErr(err)
	if !ok {
		return cleaned(err, passwords)
	}
	switch word, _, _ := strings.Cut(e.Error(), " "); word {
	case "WRONGPASS", "NOAUTH", "NOPERM":
		return &fleet.DeniedError{Err: cleaned(err, passwords)}
	case "WRONGTYPE": // another program uses the key
		return &fleet.KeyError{Err: cleaned(err, passwords)}
	}
	return cleaned(err, passwords)
}

// Subscribe implements [fleet.Server].
func (l *link) Subscribe(ctx context.Context, subscribed func(), changed func(fleet.View)) error {
	hook := func(e rueidis.PubSubSubscription) {
		if e.Kind == "subscribe" {
			subscribed()
		}
	}
	err := l.client.Receive(rueidis.WithOnSubscriptionHook(ctx, hook),
		l.client.B().Subscribe().Channel(l.channel()).Build(),
		func(m rueidis.PubSubMessage) {
			_, v, err := parse(m.Message)
			name, ours := strings.CutPrefix(v.Key, l.prefix)
			if err == nil && ours { // other messages are ignored: what matters is also read
				v.Key = name
				changed(v)
			}
		})
	err = classified(err, l.passwords)
	if denied, ok := errors.AsType[*fleet.DeniedError](err); ok {
		denied.Err = fmt.Errorf("channel %q: %w", l.channel(), denied.Err)
	}
	return err
}

// Run implements [fleet.Server]. If the server does not have the script of a call,
// Run repeats that call, and the later calls of the same key, with its text.
func (l *link) Run(ctx context.Context, calls []fleet.Call) []fleet.Response {
	results := l.send(ctx, calls, false)
	again, places, unknown := []fleet.Call{}, []int{}, map[string]bool{}
	for i, c := range calls {
		if e, ok := rueidis.IsRedisErr(results[i].Error()); ok && e.IsNoScript() {
			unknown[c.Key] = true
		}
		if unknown[c.Key] {
			again, places = append(again, c), append(places, i)
		}
	}
	if len(again) > 0 {
		for i, result := range l.send(ctx, again, true) {
			results[places[i]] = result
		}
	}
	responses := make([]fleet.Response, len(calls))
	for i, c := range calls {
		responses[i].View, responses[i].Err = l.response(c, results[i])
	}
	return responses
}

// response decodes the response to c.
func (l *link) response(c fleet.Call, result rueidis.RedisResult) (fleet.View, error) {
	text, err := result.ToString()
	if err != nil {
		return fleet.View{}, classified(err, l.passwords)
	}
	r, v, err := parse(text)
	if want := l.prefix + c.Key; r.Key != "" && r.Key != want {
		err = bad("key", r.Key, strconv.Quote(want))
	}
	v.Key = c.Key
	if _, ok := errors.AsType[*fleet.UnsharedError](err); ok {
		return v, err
	}
	return v, cleaned(err, l.passwords)
}

// send executes the calls in one round trip. If a part of a cluster has no node, the
// client sends no call at all; then send executes each call in its own round trip.
func (l *link) send(ctx context.Context, calls []fleet.Call, withText bool) []rueidis.RedisResult {
	commands := make([]rueidis.Completed, len(calls))
	for i, c := range calls {
		commands[i] = l.command(c, withText)
	}
	results := l.client.DoMulti(ctx, commands...)
	if errors.Is(results[0].Error(), rueidis.ErrNoSlot) {
		for i, c := range calls {
			results[i] = l.client.Do(ctx, l.command(c, withText))
		}
	}
	return results
}
