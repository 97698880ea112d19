-- Words and chances, for the session only. The same number and salt always give the same choice.
CREATE FUNCTION pg_temp.pick(number bigint, salt int, choices int) RETURNS int IMMUTABLE PARALLEL SAFE LANGUAGE sql AS
$$ SELECT ((hashint8extended(number, salt) & 9223372036854775807) % choices)::int $$;

CREATE FUNCTION pg_temp.word(words text[], number bigint, salt int) RETURNS text IMMUTABLE PARALLEL SAFE LANGUAGE sql AS
$$ SELECT words[1 + pg_temp.pick(number, salt, cardinality(words))] $$;

CREATE FUNCTION pg_temp.first_names() RETURNS text[] IMMUTABLE LANGUAGE sql AS $$ SELECT string_to_array(
'Anna,Ben,Carla,David,Elena,Finn,Greta,Henrik,Ida,Jonas,Katrin,Lukas,Mara,Nils,Olivia,Paul,Rosa,Simon,Tessa,Uwe,Vera,'
'Wim,Yara,Zoe,Aleksander,Beata,Cédric,Dagmar,Emil,Francesca,Giulia,Hugo,Ingrid,Jan,Klára,Léa,Marek,Noémie,Ole,Petra,'
'Quentin,Renate,Sofia,Tomasz,Ursula,Viktor,Wiebke,Annika,Bruno,Claire', ',') $$;

CREATE FUNCTION pg_temp.last_names() RETURNS text[] IMMUTABLE LANGUAGE sql AS $$ SELECT string_to_array(
'Albrecht,Bianchi,Brandt,Castel,Dahl,Dvořák,Ebert,Fischer,Fontana,Garnier,Graf,Hansen,Heller,Jansen,Jensen,Kaiser,'
'Kowalski,Krüger,Lambert,Lindqvist,Lorenz,Maas,Marchetti,Meyer,Moreau,Nowak,Okafor,Pedersen,Petit,Pohl,Richter,Rossi,'
'Sauer,Schäfer,Schubert,Seidel,Sommer,Svoboda,Thiel,Ullrich,Vermeer,Vogel,Wagner,Weber,Winkler,Wójcik,Ziegler,Zimmer', ',') $$;

CREATE FUNCTION pg_temp.firms() RETURNS text[] IMMUTABLE LANGUAGE sql AS $$ SELECT string_to_array(
'Alpen,Anker,Baltic,Berg,Brückner,Delta,Eifel,Elbe,Falken,Feldmann,Föhr,Hansa,Harz,Isar,Jade,Kiefer,Küsten,Linden,'
'Lübecker,Marschall,Merkur,Mosel,Neckar,Nordlicht,Oder,Orion,Polar,Rhein,Ruhr,Saale,Seeland,Spree,Stein,Süd,Taunus,'
'Turm,Union,Weser,Westfalen,Zenit', ',') $$;

CREATE FUNCTION pg_temp.trades() RETURNS text[] IMMUTABLE LANGUAGE sql AS $$ SELECT string_to_array(
'Anlagenbau,Dachtechnik,Elektro,Fahrzeugbau,Fensterbau,Gartenbau,Gebäudetechnik,Gerüstbau,Holzwerk,Kältetechnik,'
'Landtechnik,Ladenbau,Maschinenbau,Metallbau,Möbelwerkstatt,Montage,Präzisionsteile,Sanitär,Schiffswerft,Schlosserei,'
'Solar,Stahlbau,Tiefbau,Tischlerei,Torbau,Werkzeugbau,Zimmerei', ',') $$;

CREATE FUNCTION pg_temp.cities() RETURNS text[] IMMUTABLE LANGUAGE sql AS $$ SELECT string_to_array(
'Hamburg|20|DE,Berlin|10|DE,Bremen|28|DE,Kiel|24|DE,Leipzig|04|DE,Dresden|01|DE,Hannover|30|DE,Kassel|34|DE,Köln|50|DE,'
'Dortmund|44|DE,Münster|48|DE,Mainz|55|DE,Freiburg|79|DE,Ulm|89|DE,Nürnberg|90|DE,München|80|DE,Passau|94|DE,Linz|40|AT,'
'Graz|80|AT,Wien|10|AT,Bern|30|CH,Basel|40|CH,Lille|59|FR,Strasbourg|67|FR,Lyon|69|FR,Utrecht|35|NL,Groningen|97|NL,'
'Gent|90|BE,Aarhus|80|DK,Odense|50|DK,Malmö|21|SE,Gdańsk|80|PL,Poznań|60|PL,Brno|60|CZ,Plzeň|30|CZ', ',') $$;

CREATE FUNCTION pg_temp.streets() RETURNS text[] IMMUTABLE LANGUAGE sql AS $$ SELECT string_to_array(
'Am Hafen,An der Mühle,Bahnhofstraße,Birkenweg,Fabrikstraße,Gewerbepark,Hansestraße,Im Gewerbegebiet,Industriestraße,'
'Kanalstraße,Lagerhof,Lindenallee,Marktplatz,Nordring,Schmiedegasse,Speicherweg,Werftstraße,Zum Steinbruch', ',') $$;

CREATE FUNCTION pg_temp.qualities() RETURNS text[] IMMUTABLE LANGUAGE sql AS $$ SELECT string_to_array(
'Profi,Kompakt,Industrie,Werkstatt,Edelstahl,Titan,Premium,Leicht,Schwerlast,Präzision,Akku,Magnet', ',') $$;

CREATE FUNCTION pg_temp.goods() RETURNS text[] IMMUTABLE LANGUAGE sql AS $$ SELECT string_to_array(
'Bohrhammer,Winkelschleifer,Drehmomentschlüssel,Steckschlüsselsatz,Hobelmesser,Spiralbohrer,Gewindeschneider,'
'Schraubzwinge,Rohrzange,Messschieber,Wasserwaage,Kreuzlinienlaser,Kappsäge,Stichsägeblatt,Bandschleifer,'
'Arbeitsleuchte,Kabeltrommel,Druckluftkupplung,Schweißhelm,Schutzhandschuh,Sicherheitsschuh,Gehörschutz,'
'Werkbank,Regalboden,Transportwagen,Spanngurt,Seilwinde,Hubwagen,Dichtungssatz,Kugellager', ',') $$;

CREATE FUNCTION pg_temp.departments() RETURNS text[] IMMUTABLE LANGUAGE sql AS
$$ SELECT ARRAY['Sales', 'Sales', 'Sales', 'Purchasing', 'Warehouse', 'Accounting', 'Customer service', 'IT'] $$;

CREATE FUNCTION pg_temp.remarks() RETURNS text[] IMMUTABLE LANGUAGE sql AS $$ SELECT ARRAY[
    'Order confirmed by telephone.', 'Customer asked for delivery before noon.', 'Price agreed with sales management.',
    'Delivery address changed on request.', 'Credit limit checked.', 'Partial delivery accepted.',
    'Confirmation sent by e-mail.', 'Pallet exchange agreed.', 'Customer number on the parcel label, please.',
    'Replacement for a faulty item, see the earlier order.'] $$;
