package main

import (
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// bandwidthFlag is the flag of copy and sync that limits the bytes per second of all connections together.
type bandwidthFlag struct {
	text string // as given; "" means no limit
	rate float64
}

func (f *bandwidthFlag) add(flags *pflag.FlagSet) {
	flags.Var(each(f.set), "bandwidth", "maximum `rate` of all connections together, in bytes per second as 500K, 10M or 2.5MiB/s (no limit)")
}

// maxBandwidth is 1 TiB per second.
const maxBandwidth = 1 << 40

// set parses a number of bytes per second, with a unit that is a power of 1024, as curl --limit-rate and rclone --bwlimit do.
func (f *bandwidthFlag) set(text string) error {
	number := strings.TrimSuffix(text, "/s")
	number = strings.TrimSuffix(number, "B")
	unit := 1.0
	if bare, binary := strings.CutSuffix(number, "i"); binary || number == strings.TrimSuffix(text, "/s") {
		if at := strings.IndexAny(bare, "kKmMgGtT"); at >= 0 && at == len(bare)-1 {
			unit = float64(int64(1) << (10 * (1 + strings.Index("KMGT", strings.ToUpper(bare[at:])))))
			bare = bare[:at]
		} else if binary {
			bare = ""
		}
		number = bare
	}
	value, err := strconv.ParseFloat(number, 64)
	if f.rate = value * unit; err != nil || strings.Trim(number, "0123456789.") != "" || !(f.rate >= 1 && f.rate <= maxBandwidth) {
		return setting.Bad("--bandwidth", text, "bytes per second from 1 to 1T, such as 10M or 2.5MiB/s; K, M, G and T are powers of 1024")
	}
	f.text = text
	return nil
}

// check returns an error if a download at this bandwidth would count as stalled.
func (f *bandwidthFlag) check(minRate int) error {
	if f.text != "" && f.rate < float64(minRate) {
		return setting.Bad("--bandwidth", f.text, "at least --min-rate, which is "+strconv.Itoa(minRate)+" bytes per second")
	}
	return nil
}
