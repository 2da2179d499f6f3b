//! What every section of the file has: fields that are optional, and their documentation as data,
//! of which [`keys`](super::keys()) has all.

/// A key of the file, for the reference and for finding the nearest.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The name of its section, such as `hub` or `ice`.
    pub section: &'static str,
    /// The key in its section.
    pub name: &'static str,
    /// What it takes, in words.
    pub takes: &'static str,
    /// What it means, lines of Markdown.
    pub doc: &'static str,
}

/// The name of a key whose field has to be written as `r#type`.
pub(super) const fn plain(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// A section: each field optional, with its documentation also as data.
///
/// Behind its keys stand the tables in it, which it does not merge or set: each is a section of its own. The file that uses the macro
/// imports what the macro names.
macro_rules! section {
    ($(#[doc = $about:literal])+ pub struct $name:ident = $section:literal {
        $($(#[doc = $doc:literal])+ $field:ident: $type:ty,)+
        $(; $($(#[doc = $table_doc:literal])+ $table:ident: $table_type:ty,)+)?
    }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: Option<Given<$type>>,)+
            $($($(#[doc = $table_doc])+ #[serde(default)] pub $table: $table_type,)+)?
        }

        impl $name {
            /// What the section is about, in Markdown.
            pub const ABOUT: &'static str = concat!($($about, "\n"),+);

            /// The keys of the section.
            pub const KEYS: &'static [Key] = &[$(Key {
                section: $section,
                name: plain(stringify!($field)),
                takes: <$type as Setting>::TAKES,
                doc: concat!($($doc, "\n"),+),
            },)+];

            /// Sets a key from a variable's text; see [`File::set`](super::File::set).
            pub fn set(&mut self, key: &str, variable: &str, text: &str) -> Result<bool, &'static str> {
                match key {
                    $(name if name == plain(stringify!($field)) => {
                        self.$field = Some(Given {
                            value: <$type>::from_text(text).ok_or(<$type as Setting>::TAKES)?,
                            origin: Origin::Variable(variable.to_owned()),
                        });
                    })+
                    _ => return Ok(false),
                }
                Ok(true)
            }

            /// Sets a key from a value of the hub's settings; see [`File::set`](super::File::set).
            pub fn set_json(&mut self, key: &str, setting: &str, value: &Value) -> Result<bool, &'static str> {
                match key {
                    $(name if name == plain(stringify!($field)) => {
                        self.$field = Some(Given {
                            value: <$type>::from_json(value).ok_or(<$type as Setting>::TAKES)?,
                            origin: Origin::Setting(setting.to_owned()),
                        });
                    })+
                    _ => return Ok(false),
                }
                Ok(true)
            }

            /// Where a key was given. `None` means that it was not, or that there is no such key.
            pub fn origin(&self, key: &str) -> Option<&Origin> {
                match key {
                    $(name if name == plain(stringify!($field)) => self.$field.as_ref().map(|given| &given.origin),)+
                    _ => None,
                }
            }

            /// Takes over every key that `nearer` has.
            pub fn overlay(&mut self, nearer: &Self) {
                $(if nearer.$field.is_some() {
                    self.$field.clone_from(&nearer.$field);
                })+
            }
        }
    };
}

pub(super) use section;
