package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// Look returns what the server knows of the breakers of those names, for a
// person to see: it is no part of the fleet and changes nothing. Of a name that
// the server does not know there is no Status. The error is about the Options,
// the server, or ctx.
func Look(ctx context.Context, o Options, names []string) (map[string]Status, error) {
	o, server, err := o.filled()
	if err != nil || len(names) == 0 {
		return nil, err
	}
	type result struct {
		seen map[string]Status
		err  error
	}
	done := make(chan result, 1)
	go func() { // to connect takes what it takes
		var r result
		r.seen, r.err = look(ctx, server, o.Prefix, names)
		done <- r
	}()
	select {
	case r := <-done:
		return r.seen, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func look(ctx context.Context, server rueidis.ClientOption, prefix string, names []string) (map[string]Status, error) {
	client, err := rueidis.NewClient(server)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	now, err := client.Do(ctx, client.B().Time().Build()).AsIntSlice()
	if err != nil || len(now) == 0 {
		return nil, err
	}
	clock := time.UnixMilli(now[0]*1000 + now[1]/1000)
	var commands []rueidis.Completed
	for _, name := range names {
		commands = append(commands, client.B().Hgetall().Key(prefix+name).Build())
	}
	seen := make(map[string]Status)
	for i, answer := range client.DoMulti(ctx, commands...) {
		hash, err := answer.AsStrMap()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", names[i], err)
		}
		if hash["epoch"] != "" {
			seen[names[i]] = status(hash, time.Until(clock))
		}
	}
	return seen, nil
}

// status is what a hash says, whose instants are that much ahead of this
// process's clock.
func status(hash map[string]string, ahead time.Duration) Status {
	at := func(field string) time.Time {
		ms, _ := strconv.ParseInt(hash[field], 10, 64) // 0 if it is not there
		return time.UnixMilli(ms).Add(-ahead)
	}
	v := view{until: at("until"), lease: at("lease.till")}
	_ = v.state.UnmarshalText([]byte(hash["state"])) // closed if it is not there
	if v.lease.After(time.Now()) {
		v.process, v.node = hash["lease.process"], hash["lease.node"]
	}
	return v.status()
}
