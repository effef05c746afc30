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

// connect makes a connection for m.
func connect(server rueidis.ClientOption, prefix string, m fleet.Member) (*link, error) {
	client, err := rueidis.NewClient(server)
	if err != nil {
		return nil, known(err, passwords(server))
	}
	return &link{client, prefix, m, passwords(server)}, nil
}

// Close ends the connection. It may wait a second for a server that is silent.
func (l *link) Close() { l.client.Close() }

// channel is where changes are published.
func (l *link) channel() string { return l.prefix + "changes" }

// known returns err with a text that may be shown, and a type that says what it is
// about, if that is known.
func known(err error, passwords secrets) error {
	e, ok := rueidis.IsRedisErr(err)
	if !ok {
		return cleaned(err, passwords)
	}
	switch word, _, _ := strings.Cut(e.Error(), " "); word {
	case "WRONGPASS", "NOAUTH", "NOPERM":
		return &fleet.DeniedError{Err: cleaned(err, passwords)}
	case "WRONGTYPE": // the key belongs to somebody else
		return &fleet.KeyError{Err: cleaned(err, passwords)}
	}
	return cleaned(err, passwords)
}

// Subscribe learns what is published until the connection fails or ctx ends.
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
			if err == nil && ours { // else it is from somebody else; what matters is also read
				v.Key = name
				changed(v)
			}
		})
	err = known(err, l.passwords)
	if denied, ok := errors.AsType[*fleet.DeniedError](err); ok {
		denied.Err = fmt.Errorf("channel %q: %w", l.channel(), denied.Err)
	}
	return err
}

// Run makes the calls. Those of a script that the server does not have, and what
// follows on the same key, are made again with its text.
func (l *link) Run(ctx context.Context, calls []fleet.Call) []fleet.Answer {
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
	answers := make([]fleet.Answer, len(calls))
	for i, c := range calls {
		answers[i].View, answers[i].Err = l.answer(c, results[i])
	}
	return answers
}

// answer reads the answer to c.
func (l *link) answer(c fleet.Call, result rueidis.RedisResult) (fleet.View, error) {
	text, err := result.ToString()
	if err != nil {
		return fleet.View{}, known(err, l.passwords)
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

// send makes the calls in one round trip. If one of them would go to a part of
// a cluster that has lost its node, the client makes none; then each goes alone.
func (l *link) send(ctx context.Context, calls []fleet.Call, whole bool) []rueidis.RedisResult {
	commands := make([]rueidis.Completed, len(calls))
	for i, c := range calls {
		commands[i] = l.run(c, whole)
	}
	results := l.client.DoMulti(ctx, commands...)
	if errors.Is(results[0].Error(), rueidis.ErrNoSlot) {
		for i, c := range calls {
			results[i] = l.client.Do(ctx, l.run(c, whole))
		}
	}
	return results
}
