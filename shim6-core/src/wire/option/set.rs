//! The options of one message, collected and checked.

use super::{
    LocatorListView, LocatorPreferencesView, RawOption, RawOptions, UlidPair, forked_instance, keepalive_timeout,
    keepalive_timeout_ms,
};
use crate::wire::{OptionType, ParseError};

/// The options that a message has, each known one at most once. Nothing is copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OptionSet<'a> {
    /// Responder Validator.
    pub responder_validator: Option<&'a [u8]>,
    /// Locator List.
    pub locators: Option<LocatorListView<'a>>,
    /// Locator Preferences.
    pub preferences: Option<LocatorPreferencesView<'a>>,
    /// CGA Parameter Data Structure.
    pub cga_parameters: Option<&'a [u8]>,
    /// CGA Signature.
    pub cga_signature: Option<&'a [u8]>,
    /// ULID Pair.
    pub ulid_pair: Option<UlidPair>,
    /// Forked Instance Identifier.
    pub forked_instance: Option<u32>,
    /// Keepalive Timeout in seconds.
    pub keepalive_timeout: Option<u16>,
    /// Keepalive Timeout in milliseconds.
    pub keepalive_timeout_ms: Option<u32>,
}

impl<'a> OptionSet<'a> {
    /// Collects the options in `octets`, which start `offset` octets into the message.
    ///
    /// An option that is not in `valid` counts as unknown there, even if we know it elsewhere (RFC
    /// 5533 section 5.15): it is skipped when its critical bit is clear, and an error otherwise.
    pub(in crate::wire) fn collect(octets: &'a [u8], offset: usize, valid: &[OptionType]) -> Result<Self, ParseError> {
        let mut set = OptionSet::default();
        for option in RawOptions::new(octets, offset) {
            let option = option?;
            if !(valid.contains(&option.option_type) && set.add(&option)?) && option.critical {
                return Err(ParseError::UnknownCriticalOption {
                    option_type: option.option_type,
                    offset: option.offset,
                });
            }
        }
        Ok(set)
    }

    /// Adds an option; `false` when its type is unknown.
    fn add(&mut self, option: &RawOption<'a>) -> Result<bool, ParseError> {
        match option.option_type {
            OptionType::RESPONDER_VALIDATOR => {
                once(&mut self.responder_validator, option, |raw| Ok(raw.contents))?;
            }
            OptionType::LOCATOR_LIST => once(&mut self.locators, option, LocatorListView::parse)?,
            OptionType::LOCATOR_PREFERENCES => once(&mut self.preferences, option, LocatorPreferencesView::parse)?,
            OptionType::CGA_PARAMETERS => {
                once(&mut self.cga_parameters, option, |raw| Ok(raw.contents))?;
            }
            OptionType::CGA_SIGNATURE => {
                once(&mut self.cga_signature, option, |raw| Ok(raw.contents))?;
            }
            OptionType::ULID_PAIR => once(&mut self.ulid_pair, option, UlidPair::parse)?,
            OptionType::FORKED_INSTANCE => {
                once(&mut self.forked_instance, option, forked_instance::parse)?;
            }
            OptionType::KEEPALIVE_TIMEOUT => {
                once(&mut self.keepalive_timeout, option, keepalive_timeout::parse)?;
            }
            OptionType::KEEPALIVE_TIMEOUT_MS => {
                once(&mut self.keepalive_timeout_ms, option, keepalive_timeout_ms::parse)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The Responder Validator of a message that must have one.
    pub(in crate::wire) fn required_validator(&self) -> Result<&'a [u8], ParseError> {
        self.responder_validator
            .ok_or(ParseError::MissingOption(OptionType::RESPONDER_VALIDATOR))
    }
}

/// Fills the place of an option that may occur once.
fn once<'a, T>(
    place: &mut Option<T>,
    option: &RawOption<'a>,
    parse: impl FnOnce(&RawOption<'a>) -> Result<T, ParseError>,
) -> Result<(), ParseError> {
    if place.is_some() {
        return Err(ParseError::DuplicateOption(option.option_type));
    }
    *place = Some(parse(option)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    const VALID: &[OptionType] = &[OptionType::FORKED_INSTANCE, OptionType::RESPONDER_VALIDATOR];

    fn collect(octets: &[u8]) -> Result<OptionSet<'_>, ParseError> {
        OptionSet::collect(octets, 16, VALID)
    }

    #[test]
    fn no_options_are_an_empty_set() {
        assert_eq!(collect(&[]), Ok(OptionSet::default()));
    }

    #[test]
    fn unknown_option_is_ignored_even_twice() {
        let octets = hex!("0010 0000 00000000 0010 0000 00000000 000e 0004 00000007");
        let set = collect(&octets).map(|set| set.forked_instance);
        assert_eq!(set, Ok(Some(7)));
    }

    #[test]
    fn unknown_critical_option_is_reported_with_its_offset() {
        let octets = hex!("000e 0004 00000007 0011 0000 00000000");
        assert_eq!(
            collect(&octets),
            Err(ParseError::UnknownCriticalOption {
                option_type: OptionType(8),
                offset: 24
            })
        );
    }

    #[test]
    fn known_option_where_it_is_not_valid_counts_as_unknown() {
        // Keepalive Timeout with a wrong Length: not even looked at.
        assert_eq!(collect(&hex!("0014 0001 ff000000")), Ok(OptionSet::default()));
        assert_eq!(
            collect(&hex!("0015 0004 0000000a")),
            Err(ParseError::UnknownCriticalOption {
                option_type: OptionType::KEEPALIVE_TIMEOUT,
                offset: 16
            })
        );
    }

    #[test]
    fn critical_bit_of_a_valid_option_changes_nothing() {
        let set = collect(&hex!("000f 0004 00000007")).map(|set| set.forked_instance);
        assert_eq!(set, Ok(Some(7)));
    }

    #[test]
    fn duplicate_of_a_known_option_is_refused() {
        assert_eq!(
            collect(&hex!("0002 0001 aa000000 0002 0001 aa000000")),
            Err(ParseError::DuplicateOption(OptionType::RESPONDER_VALIDATOR))
        );
    }
}
