package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/seed-0f2c7998/perdure/pipes"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A ride is a record of the UCI Bike Sharing data set: how many bikes were rented in an
// hour or a day, and the weather, in common units.
type ride struct {
	Start      time.Time `parquet:"start,timestamp(millisecond)"`
	Season     string    `parquet:"season,dict"`
	Holiday    bool      `parquet:"holiday"`
	WorkingDay bool      `parquet:"working_day"`
	Weather    int32     `parquet:"weather"` // 1 clear to 4 heavy rain
	Temp       float64   `parquet:"temp_celsius"`
	Feels      float64   `parquet:"feels_celsius"`
	Humidity   float64   `parquet:"humidity_percent"`
	Wind       float64   `parquet:"wind"`
	Casual     int32     `parquet:"casual"`
	Registered int32     `parquet:"registered"`
	Total      int32     `parquet:"total"`
}

// rides publishes the table of a CSV file, and checks the sums of its records.
func rides(ctx context.Context, l *link, j *job) error {
	f, err := os.Open(j.from)
	if err != nil {
		return retry.Permanent(err)
	}
	defer func() { _ = f.Close() }()
	all, err := readRides(f)
	if err != nil {
		return retry.Permanent(fmt.Errorf("%s: %w", j.from, err))
	}
	if err := publish(ctx, l, j, all, pipes.Metadata{"source": pipes.Path(j.from)}); err != nil {
		return err
	}
	wrong := 0
	for _, r := range all {
		if r.Casual+r.Registered != r.Total {
			wrong++
		}
	}
	return l.session.Check(pipes.Check{Name: "riders_add_up", Passed: wrong == 0, Metadata: pipes.Metadata{
		"rows": pipes.Int(int64(len(all))), "wrong": pipes.Int(int64(wrong)),
	}})
}

// readRides reads the columns that hour.csv and day.csv have in common, by the names in
// the first line.
func readRides(r io.Reader) ([]ride, error) {
	lines := csv.NewReader(r)
	header, err := lines.Read()
	if err != nil {
		return nil, fmt.Errorf("read the column names: %w", err)
	}
	var all []ride
	for {
		fields, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		rec := record{header: header, fields: fields}
		all = append(all, rec.ride())
		if rec.err != nil {
			return nil, fmt.Errorf("record %d: %w", len(all), rec.err)
		}
	}
}

// A record is a line of the file.
type record struct {
	header, fields []string
	err            error // the first field that is wrong
}

func (r *record) ride() ride {
	season := r.integer("season")
	if season < 1 || season > 4 {
		r.bad("season", "1 to 4")
		season = 1
	}
	return ride{
		Start:  r.start(),
		Season: []string{"spring", "summer", "fall", "winter"}[season-1], Holiday: r.integer("holiday") == 1,
		WorkingDay: r.integer("workingday") == 1, Weather: r.integer("weathersit"),
		// In the file each is a share of its greatest value.
		Temp: 41 * r.number("temp"), Feels: 50 * r.number("atemp"), Humidity: 100 * r.number("hum"), Wind: 67 * r.number("windspeed"),
		Casual: r.integer("casual"), Registered: r.integer("registered"), Total: r.integer("cnt"),
	}
}

// text returns the field of that name, "" if the file has no such column.
func (r *record) text(name string) string {
	if i := slices.Index(r.header, name); i >= 0 {
		return r.fields[i] // the reader checks the number of fields
	}
	return ""
}

// start returns the hour, or the day in a file without hours.
func (r *record) start() time.Time {
	day, hours := time.Time{}, int32(0)
	for _, form := range []string{time.DateOnly, "1/2/06"} {
		if t, err := time.Parse(form, r.text("dteday")); err == nil {
			day = t
		}
	}
	if day.IsZero() {
		r.bad("dteday", "a date, as 2011-01-31 or 1/31/11")
	}
	if slices.Contains(r.header, "hr") {
		hours = r.integer("hr")
	}
	return day.Add(time.Duration(hours) * time.Hour)
}

func (r *record) integer(name string) int32 {
	n, err := strconv.ParseInt(r.text(name), 10, 32)
	if err != nil {
		r.bad(name, "a whole number")
	}
	return int32(n)
}

func (r *record) number(name string) float64 {
	x, err := strconv.ParseFloat(r.text(name), 64)
	if err != nil {
		r.bad(name, "a number")
	}
	return x
}

func (r *record) bad(name, want string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s %q: want %s", name, r.text(name), want)
	}
}
