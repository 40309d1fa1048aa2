"""Units of measure: what is typed, and how one and several of it are said."""

import re

from serve_app.speech.text.tables import pairs, table

_PLAIN = table(
    """
    kilometer: km | meter: m | centimeter: cm | millimeter: mm | micrometer: \u03bcm \xb5m | nanometer: nm
    mile: mi | yard: yd yds | kilogram: kg kgs | gram: g | milligram: mg | microgram: \u03bcg \xb5g mcg
    pound: lb lbs | ounce: oz | liter: l L | milliliter: ml mL | deciliter: dl dL | centiliter: cl cL | gallon: gal
    kilowatt hour: kWh | megawatt: MW | kilowatt: kW | watt: W | kilovolt: kV | volt: V | milliamp: mA
    milliamp hour: mAh | hour: h hr hrs | minute: min mins | second: s sec secs | millisecond: ms
    microsecond: \u03bcs \xb5s | nanosecond: ns | kilobyte: kB KB | megabyte: MB | gigabyte: GB | terabyte: TB
    petabyte: PB | gibibyte: GiB | mebibyte: MiB | pixel: px | decibel: dB | calorie: cal | kilocalorie: kcal
    kilojoule: kJ | joule: J | newton: N | pascal: Pa | kilopascal: kPa | hectare: ha | ton: t | year: yr yrs
    tablespoon: tbsp | teaspoon: tsp | quart: qt | pint: pt | acre: ac | square meter: m\xb2 m2 sqm
    square kilometer: km\xb2 km2 | cubic meter: m\xb3 m3 | cubic centimeter: cm\xb3 cc | square centimeter: cm\xb2
    ohm: \u03a9 \u2126 | week: wk wks
    """
)
_ODD = pairs(
    """
    ft: foot, feet | in: inch, inches | inch: inch, inches | sq ft: square foot, square feet
    ft\xb2: square foot, square feet | mi\xb2: square mile, square miles | sq mi: square mile, square miles
    mph: mile per hour, miles per hour | kph: kilometer per hour, kilometers per hour
    km/h: kilometer per hour, kilometers per hour | kmh: kilometer per hour, kilometers per hour
    m/s: meter per second, meters per second | m/s\xb2: meter per second squared, meters per second squared
    Hz: hertz, hertz | kHz: kilohertz, kilohertz | MHz: megahertz, megahertz | GHz: gigahertz, gigahertz
    Mbps: megabit per second, megabits per second | Gbps: gigabit per second, gigabits per second
    kbps: kilobit per second, kilobits per second | MB/s: megabyte per second, megabytes per second
    rpm: R P M, R P M | fps: frame per second, frames per second | ppm: part per million, parts per million
    bpm: beat per minute, beats per minute | psi: P S I, P S I | hp: horsepower, horsepower | dpi: D P I, D P I
    mpg: mile per gallon, miles per gallon | bar: bar, bar
    """
)

UNIT_NAMES = {typed: (name, f"{name}s") for name, forms in _PLAIN.items() for typed in forms.split()} | _ODD
"""Singular and plural of each unit."""

# "in" is a word more often than a unit ("5 in the morning"): only written together or before a mark.
_GUARDED = {"in": r"(?:(?<=[0-9])in\b|in(?=[.,;)]|$))"}
UNIT_PATTERN = "|".join(_GUARDED.get(unit, re.escape(unit)) for unit in sorted(UNIT_NAMES, key=len, reverse=True))

RATES = table(
    """
    mo: month | yr: year | hr: hour | h: hour | wk: week | min: minute | sec: second | s: second | kg: kilogram
    lb: pound | km: kilometer | GB: gigabyte | day: day | month: month | year: year
    """
)
"""What stands behind a slash: "$20/mo"."""
